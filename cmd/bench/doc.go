// Package bench measures the whole, each figure beside its limit in one run.
//
//	make bench-whole
//
// runs it on real services; what needs none runs with go test -bench alone.
package bench

// Package bench measures the whole, each figure beside its limit in one run.
//
//	make bench
//
// runs it, and every other benchmark, on real services; what needs none runs with
// go test -bench alone. docs/benchmarks.md has the figures.
package bench

package engine_test

import (
	"flag"
	"os"
	"testing"
)

// TestMain has properties looked at more often than is usual, unless somebody says how
// often: a stream takes less than a millisecond.
func TestMain(m *testing.M) {
	flag.Parse()
	const checks = "rapid.checks"
	if f := flag.Lookup(checks); f.Value.String() == f.DefValue {
		if err := flag.Set(checks, "1000"); err != nil {
			panic(err)
		}
	}
	os.Exit(m.Run())
}

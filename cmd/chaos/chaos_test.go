package chaos_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/meet5/backend/cmd/chaos"
)

// programs compiles the services.
func programs(t *testing.T) (bin string) {
	t.Helper()
	bin = t.TempDir()
	for _, name := range []string{"user", "activity", "fraud", "projections", "gateway"} {
		out, err := exec.Command("go", "build", "-o", filepath.Join(bin, name), "../../"+name+"/cmd/"+name).CombinedOutput() //nolint:gosec // our own programs
		if err != nil {
			t.Fatalf("build %s: %v: %s", name, err, out)
		}
	}
	return bin
}

// Every fault, once, shortened, all in one house on services of the test's own.
// `make chaos` does it at length.
func TestPromisesHoldThroughEveryFault(t *testing.T) {
	o := chaos.Options{
		Seed: 1, Load: 2 * time.Second, Pause: 1500 * time.Millisecond, Outage: 2 * time.Second, OneHouse: true,
		Bin: programs(t), Script: filepath.Join("..", "..", "deploy", "testing", "services"),
	}
	report, err := chaos.Run(t.Context(), o, func(r chaos.Result) {
		if len(r.Violations) > 0 {
			t.Errorf("%v", r)
		} else {
			t.Logf("%v, %v", r, r.Took)
		}
		// A run that did nothing proves nothing.
		if r.Acknowledged == 0 || r.Requests == 0 {
			t.Errorf("%s: nothing was acknowledged", r.Fault)
		}
	})
	if errors.Is(err, chaos.ErrNoServices) && os.Getenv("CI") == "" {
		t.Skipf("FAULTS ARE NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Results) != len(chaos.Faults()) {
		t.Errorf("%d runs for %d faults", len(report.Results), len(chaos.Faults()))
	}
	var table strings.Builder
	if err := report.WriteTable(&table); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + table.String())
}

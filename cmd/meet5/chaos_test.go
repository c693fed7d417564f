package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meet5/backend/cmd/chaos"
)

func TestChaosSaysWhatItCanDo(t *testing.T) {
	out := must(t, "chaos", "--list").out
	for _, f := range chaos.Faults() {
		if !strings.Contains("\n"+out, "\n"+f.Name+" ") || !strings.Contains(out, f.What) {
			t.Errorf("%s is not in the list, or not in full:\n%s", f.Name, out)
		}
	}
	var listed []chaos.Fault
	if err := json.Unmarshal([]byte(must(t, "chaos", "--list", "--json").out), &listed); err != nil || len(listed) != len(chaos.Faults()) {
		t.Errorf("as JSON: %v, %v", listed, err)
	}
}

func TestChaosOfWhatThereIsNotIsWrongUsage(t *testing.T) {
	for said, args := range map[string][]string{
		`fault: there is no "kill-everybody"`: {"kill-everybody"},
		"seeds: -1, want 1 to 1000":           {"--seeds=-1"},
		"load: -1s is negative":               {"--load=-1s"},
		"make build fills bin":                {"--bin", filepath.Join(t.TempDir(), "nowhere"), "kill-writer"},
	} {
		if e := command(t, append([]string{"chaos"}, args...)...); e.code != usage || !strings.Contains(e.err, said) || e.out != "" {
			t.Errorf("%v: exit code %d, %q, %q, want %d and %q", args, e.code, e.out, e.err, usage, said)
		}
	}
}

// Where no services can be had, the script ends with 3 and says what is missing.
func TestChaosWithoutServicesSaysWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "services")
	if err := os.WriteFile(script, []byte("#!/bin/sh\necho 'a broker is missing' >&2\nexit 3\n"), 0o700); err != nil { //nolint:gosec // it is to be run
		t.Fatal(err)
	}
	for _, name := range []string{"user", "activity", "fraud", "projections", "gateway"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o700); err != nil { //nolint:gosec // as above
			t.Fatal(err)
		}
	}
	e := command(t, "chaos", "kill-writer", "--bin", dir, "--services", script)
	if e.code != 1 || !strings.Contains(e.err, "real services cannot be had here") || !strings.Contains(e.err, "a broker is missing") || e.out != "" {
		t.Errorf("exit code %d, %q, %q", e.code, e.out, e.err)
	}
}

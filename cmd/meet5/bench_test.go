package main_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/meet5/backend/cmd/bench"
)

func TestBenchSaysWhatThereIsToMeasure(t *testing.T) {
	out := must(t, "bench", "--list").out
	for _, w := range bench.Works() {
		if !strings.Contains(out, "\n"+w.Name+" ") && !strings.HasPrefix(out, w.Name+" ") || !strings.Contains(out, w.Ours) || !strings.Contains(out, w.Limit) {
			t.Errorf("%s is not in the list, or not in full:\n%s", w.Name, out)
		}
	}
}

func TestBenchMeasuresWhatItIsAskedFor(t *testing.T) {
	e := must(t, "bench", "append-embedded", "bus-*", "--rounds", "1", "--for", "1ms", "--json", "--data", t.TempDir())
	var r struct {
		Cores   int
		Results []bench.Result
	}
	if err := json.Unmarshal([]byte(e.out), &r); err != nil {
		t.Fatalf("%v: %s", err, e.out)
	}
	if r.Cores < 1 || len(r.Results) != 1 || r.Results[0].Work != "append-embedded" || r.Results[0].Ratio <= 0 {
		t.Errorf("it measured %+v", r)
	}
	if e.err != "left out for want of --mongo or --amqp: bus-publish, bus-consume\n" {
		t.Errorf("on standard error: %q", e.err)
	}
}

func TestBenchOfWhatThereIsNotIsWrongUsage(t *testing.T) {
	for arg, said := range map[string]string{"apend": "there are append-embedded", "--rounds=0": "rounds: 0, want 1 to 1000"} {
		if e := command(t, "bench", arg); e.code != usage || !strings.Contains(e.err, said) || e.out != "" {
			t.Errorf("%s: exit code %d, %q, want %d and %q", arg, e.code, e.err, usage, said)
		}
	}
}

package main_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events/subscription"
)

const quickLikes = `id: quick-likes
title: Liked 30 different people within five minutes
events: [like]
window: {sliding: 5m}
aggregate: distinct
threshold: 30
score: 40
cases:
  - name: thirty people
    history:
      - {at: 0s, type: like, targets: 30, every: 5s}
    expect: {fires_at: 2m25s}
`

func TestRulesAreChangedFromTheCommandLine(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	must(t, "simulate", "--members", "50", "--days", "2", "--seed", "1", "--until", until, "--data", data)
	file := write(t, "quick-likes.yaml", quickLikes)

	if e := must(t, "rules", "validate", file); !strings.Contains(e.out, "quick-likes") || !strings.Contains(e.out, "COST") || !strings.Contains(e.out, "at most 30 events, 1 kB") {
		t.Errorf("validate: %s", e.out)
	}
	if e := must(t, "rules", "list", "--data", data); e.out != "" || !strings.Contains(e.err, "no rules yet") {
		t.Errorf("list: %s%s", e.out, e.err)
	}
	if e := must(t, "rules", "put", file, "--why", "bots", "--by", "anna", "--data", data); e.out != "" || !strings.Contains(e.err, "quick-likes: version 1") {
		t.Errorf("put: %s%s", e.out, e.err)
	}
	if e := must(t, "rules", "put", file, "--why", "bots", "--data", data); !strings.Contains(e.err, "is that already") {
		t.Errorf("put again: %s", e.err)
	}
	if e := command(t, "rules", "mode", "quick-likes", "live", "--why", "now", "--data", data); e.code != failed || !strings.Contains(e.err, "shadow first") {
		t.Errorf("live at once: exit code %d, %s", e.code, e.err)
	}
	must(t, "rules", "mode", "quick-likes", "shadow", "--why", "let us see", "--data", data)
	must(t, "rules", "mode", "quick-likes", "live", "--why", "precise enough", "--data", data)

	// A backend that runs on it leaves it as it is.
	runBackend(t, backend.Where{Data: data}, func([]subscription.Parked) bool { return true })
	var lines []struct{ ID, Mode, By, Why string }
	if err := json.Unmarshal([]byte(must(t, "rules", "list", "--json", "--data", data).out), &lines); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, l := range lines {
		if l.ID == "quick-likes" {
			found = l.Mode == "live" && l.By == "command line" && l.Why == "precise enough"
		}
	}
	if !found {
		t.Errorf("%+v", lines)
	}

	// What is shown can be changed and put.
	shown := must(t, "rules", "show", "quick-likes", "--data", data)
	if !strings.Contains(shown.err, "version 1") || !strings.Contains(shown.err, "anna") || !strings.Contains(shown.err, "let us see") {
		t.Errorf("show: %s", shown.err)
	}
	changed := write(t, "changed.yaml", strings.Replace(shown.out, "threshold: 30", "threshold: 40", 1))
	must(t, "rules", "put", changed, "--why", "fewer", "--data", data)
	if e := must(t, "rules", "diff", "quick-likes", "--data", data); !strings.Contains(e.out, "\n-threshold: 30\n+threshold: 40\n") {
		t.Errorf("diff: %s%s", e.out, e.err)
	}
	if e := must(t, "rules", "list", "--data", data); !strings.Contains(e.out, "quick-likes") || !strings.Contains(e.out, "live") {
		t.Errorf("list: %s", e.out)
	}
	// A verify finds nothing wrong with any of it.
	must(t, "verify", "--data", data)

	for args, says := range map[string]string{
		"rules put " + file + " --data " + data:                                  "--why",
		"rules mode quick-likes loud --why x --data " + data:                     "MODE",
		"rules diff quick-likes --from 9 --data " + data:                         "--from",
		"rules put " + write(t, "bad.yaml", "id: [") + " --why x --data " + data: "bad.yaml",
	} {
		if e := command(t, strings.Fields(args)...); e.code != usage || !strings.Contains(e.err, says) || e.out != "" {
			t.Errorf("%s: exit code %d, %s%s", args, e.code, e.out, e.err)
		}
	}
	if e := command(t, "rules", "show", "nobody", "--data", data); e.code != failed || !strings.Contains(e.err, "no such rule") {
		t.Errorf("show nobody: exit code %d, %s", e.code, e.err)
	}
	if e := must(t, "rules", "schema"); !strings.Contains(e.out, `"title": "Fraud rule"`) {
		t.Errorf("schema: %s", e.out)
	}
	wrong := write(t, "wrong.yaml", strings.Replace(quickLikes, "2m25s", "2m", 1))
	if e := command(t, "rules", "validate", wrong); e.code != failed || !strings.Contains(e.err, "FAIL") {
		t.Errorf("a case that fails: exit code %d, %s", e.code, e.err)
	}
}

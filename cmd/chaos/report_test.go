package chaos

import (
	"strings"
	"testing"
	"time"

	"github.com/meet5/backend/cmd/history"
)

func TestATableHasARowForEachFaultWithAllOfItsRuns(t *testing.T) {
	var r Report
	r.add(Result{Fault: "kill-writer", Requests: 10, Acknowledged: 20, Refused: 3, Unknown: 4, Fresh: 3 * time.Second, Unseen: time.Second, PeakMemory: 5 << 20, PeakOf: "user 0", Growth: 1 << 20})
	r.add(Result{Fault: "pause-broker", Fresh: time.Second})
	r.add(Result{Fault: "kill-writer", Requests: 1, Acknowledged: 2, Fresh: time.Second, Unseen: 2 * time.Second, PeakMemory: 7 << 20, PeakOf: "activity 1", Violations: []history.Violation{
		{Rule: history.Lost, More: 2}, {Rule: history.Undelivered}, {Rule: history.Repeated}, {Rule: history.Gap}, {Rule: history.Disordered}, {Rule: Stuck}, {Rule: history.ReadModel, More: 1},
	}})
	r.add(Result{Fault: "kill-writer", Fresh: 2 * time.Second})
	var b strings.Builder
	if err := r.WriteTable(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(b.String(), "\n")
	want := []string{
		"| kill-writer | 3 | 11 | 22 | 3 | 4 | 4 | 1 | 2 | 3 | 2.00 s | 3.00 s | 2.00 s | 7 MB (activity) | 1 MB |",
		"| pause-broker | 1 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 | 1.00 s | 1.00 s | 0.00 s | – | – |",
		"",
	}
	if got := lines[2:]; strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if columns := strings.Count(lines[0], "|"); columns != strings.Count(lines[1], "|") || columns != strings.Count(lines[2], "|") {
		t.Errorf("head, rule and rows have different columns:\n%s", b.String())
	}
	if n := r.Violations(); n != 7 {
		t.Errorf("%d violations, want 7", n)
	}
}

func TestARunSaysWhichPromisesWereBrokenAndWhatTheProgramsSaid(t *testing.T) {
	r := Result{Fault: "kill-writer", Seed: 7, Violations: []history.Violation{{Rule: history.Lost, Log: "activity", Message: "gone", Evidence: []string{"call 1"}}}, Tails: "--- user 0\nhelp\n"}
	said := r.String()
	for _, want := range []string{"kill-writer, seed 7", "1 PROMISES BROKEN", "lost: activity/0: gone", "call 1", "--- user 0\nhelp"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not in\n%s", want, said)
		}
	}
}

func TestATailKeepsTheLastWholeLines(t *testing.T) {
	var said tail
	for range 10 * tailBytes / len("a line of text\n") {
		if _, err := said.Write([]byte("a line of text\n")); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = said.Write([]byte("the end\n"))
	text := said.String()
	if len(text) > tailBytes || !strings.HasPrefix(text, "a line of text\n") || !strings.HasSuffix(text, "the end\n") {
		t.Errorf("%d bytes, beginning %.30q", len(text), text)
	}
}

func TestFaultsAreSortedAndSaidInWords(t *testing.T) {
	for i, f := range faults() {
		if f.what == "" || f.do == nil || i > 0 && faults()[i-1].name >= f.name {
			t.Errorf("%s: %q", f.name, f.what)
		}
	}
}

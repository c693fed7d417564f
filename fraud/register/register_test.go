package register_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	anna  = register.Change{At: start, By: "anna", Why: "a test"}
)

func likes(id string, threshold int) rule.Rule {
	return rule.Rule{
		ID: id, Title: id, Key: rule.KeyActor, Events: []rule.Kind{rule.Like},
		Window: rule.Window{Sliding: rule.Duration(time.Hour)}, Aggregate: rule.Count, Threshold: threshold, Score: 1,
		Effect: rule.Flag, Mode: rule.Draft,
	}
}

// world is a register, and a log in memory that it folds.
type world struct {
	*testing.T
	*register.Register
	sequence uint64
}

func newWorld(t *testing.T) *world { return &world{T: t, Register: register.New()} }

func (w *world) append(e events.Event, err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
	w.sequence++
	if !w.Apply(events.Recorded{Event: e, Position: events.Position{Sequence: w.sequence}}) {
		w.Fatalf("%s changed nothing", e.Type)
	}
}

func (w *world) put(r rule.Rule) { w.Helper(); w.append(w.Put(r, anna)) }

func (w *world) to(id string, modes ...rule.Mode) {
	w.Helper()
	for _, m := range modes {
		w.append(w.SetMode(id, m, true, anna))
	}
}

func (w *world) settle(id string, heads ...uint64) {
	w.Helper()
	k, _ := w.Get(id)
	w.append(k.TakeEffect(heads, start))
}

func TestWhatRaisesIsWhatWasLiveThere(t *testing.T) {
	w := newWorld(t)
	w.put(likes("a", 3))
	first := likes("a", 3).Version()
	at := func(version string, want string) {
		t.Helper()
		var got []string
		for _, sequence := range []uint64{5, 10, 11, 20, 21, 30, 31} {
			got = append(got, map[register.Verdict]string{register.Yes: "yes", register.No: "no", register.Unsettled: "?"}[w.Raises("a", version, 1, sequence)])
		}
		if s := strings.Join(got, " "); s != want {
			t.Errorf("%s, want %s", s, want)
		}
	}
	at(first, "no no no no no no no")
	w.to("a", rule.Live)
	at(first, "? ? ? ? ? ? ?")
	w.settle("a", 0, 10)
	at(first, "no no yes yes yes yes yes")
	w.put(likes("a", 4))
	second := likes("a", 4).Version()
	at(first, "no no ? ? ? ? ?")
	at(second, "? ? ? ? ? ? ?")
	w.settle("a", 0, 20)
	at(first, "no no yes yes no no no")
	at(second, "no no no no yes yes yes")
	// There and back before anybody has settled it: nothing has happened.
	w.to("a", rule.Shadow, rule.Live)
	if len(w.Announced()) != 0 {
		t.Errorf("announced: %+v", w.Announced())
	}
	at(second, "no no no no yes yes yes")
	w.to("a", rule.Retired)
	w.settle("a", 0, 30)
	at(second, "no no no no yes yes no")
	if w.Raises("b", second, 1, 11) != register.No {
		t.Error("a rule that is not there raises")
	}
}

func TestThereAreAtMostSoManyRules(t *testing.T) {
	w := newWorld(t)
	for i := range register.MaxRules {
		w.put(likes(fmt.Sprint("r", i), 3))
	}
	_, err := w.Put(likes("one-more", 3), anna)
	if !errors.Is(err, register.ErrRefused) || !strings.Contains(err.Error(), "1000") {
		t.Errorf("one more: %v", err)
	}
	w.put(likes("r7", 4)) // one that is there may change
	w.to("r0", rule.Retired)
	w.put(likes("one-more", 3))
	if _, err := w.SetMode("r0", rule.Draft, false, anna); !errors.Is(err, register.ErrRefused) {
		t.Errorf("back from retirement: %v", err)
	}
	for i := range register.MaxRunning {
		w.to(fmt.Sprint("r", i+1), rule.Shadow)
	}
	if _, err := w.SetMode("one-more", rule.Shadow, false, anna); !errors.Is(err, register.ErrRefused) || !strings.Contains(err.Error(), "200") {
		t.Errorf("one more that runs: %v", err)
	}
	w.to("r1", rule.Live) // it runs already
}

func TestARuleHasAtMostSoManyVersions(t *testing.T) {
	w := newWorld(t)
	for i := range register.MaxVersions {
		w.put(likes("a", i%2+3))
	}
	if _, err := w.Put(likes("a", 9), anna); !errors.Is(err, register.ErrRefused) {
		t.Errorf("one more: %v", err)
	}
	big := likes("b", 3)
	big.Description = strings.Repeat("x", register.MaxSpec)
	if _, err := w.Put(big, anna); err == nil || !strings.Contains(err.Error(), "as JSON") {
		t.Errorf("a rule that is too large: %v", err)
	}
}

func TestTheFirstRulesOfTheBookConcernTheWholeLog(t *testing.T) {
	w := newWorld(t)
	live, draft := likes("live", 3), likes("draft", 3)
	live.Mode = rule.Live
	appends, err := w.Seed([]rule.Rule{live, draft}, 2, start)
	if err != nil || len(appends) != 1 || len(appends[0]) != 3 {
		t.Fatalf("%+v %v, want one append of three events", appends, err)
	}
	for _, e := range appends[0] {
		if e.ID == uuid.Nil {
			t.Errorf("%s has no ID", e.Type)
		}
		w.append(e, nil)
	}
	if v := w.Raises("live", live.Version(), 1, 1); v != register.Yes {
		t.Errorf("the first event: %d", v)
	}
	if again, err := w.Seed([]rule.Rule{live, draft}, 2, start); err != nil || len(again) != 0 {
		t.Errorf("again: %+v %v", again, err)
	}
	later := likes("later", 3)
	later.Mode = rule.Live
	appends, err = w.Seed([]rule.Rule{live, draft, later}, 2, start)
	if err != nil || len(appends) != 1 || len(appends[0]) != 1 {
		t.Fatalf("%+v %v, want the definition alone", appends, err)
	}
	w.append(appends[0][0], nil)
	if v := w.Raises("later", later.Version(), 1, 1); v != register.Unsettled {
		t.Errorf("the first event, of a later rule: %d", v)
	}
}

func TestVersionsCompareFieldByFieldAndLineByLine(t *testing.T) {
	w := newWorld(t)
	a := likes("a", 3)
	w.put(a)
	a.Threshold, a.Description = 4, "more"
	a.Events = []rule.Kind{rule.Visit, rule.Like}
	w.put(a)
	k, _ := w.Get("a")
	d, err := k.Diff(1, 2)
	if err != nil {
		t.Fatal(err)
	}
	var fields []string
	for _, f := range d.Fields {
		fields = append(fields, fmt.Sprint(f.Field, " ", f.From, " ", f.To))
	}
	if want := []string{"description <nil> more", "events[0] like visit", "events[1] <nil> like", "threshold 3 4"}; !slices.Equal(fields, want) {
		t.Errorf("%q, want %q", fields, want)
	}
	for _, line := range []string{"+description: more", "-threshold: 3", "+threshold: 4", " aggregate: count"} {
		if !strings.Contains(d.Text, "\n"+line+"\n") {
			t.Errorf("%q is missing in\n%s", line, d.Text)
		}
	}
	for name, want := range map[string]int{"": 2, "1": 1, a.Version(): 2, "3": 0, "x": 0} {
		if n, err := k.Find(name, 2); n != want || (err == nil) != (want > 0) {
			t.Errorf("version %q is %d, %v, want %d", name, n, err, want)
		}
	}
}

func TestAReasonIsNeeded(t *testing.T) {
	for why, ok := range map[string]bool{"": false, "  ": false, "x": true, strings.Repeat("é", 500): true, strings.Repeat("é", 501): false} {
		if fault := register.CheckWhy(why); (fault == "") != ok {
			t.Errorf("%q: %q", why, fault)
		}
	}
}

func TestRulesThatMayKeepTooMuchDoNotRunTogether(t *testing.T) {
	var rules []rule.Rule
	for i := range 13 {
		rules = append(rules, rule.Rule{
			ID: fmt.Sprintf("pairs-%d", i), Title: "t", Key: rule.KeyActor, Events: []rule.Kind{rule.Visit, rule.Like},
			Window: rule.Window{Sliding: rule.Duration(time.Hour)}, Aggregate: rule.PairedDistinct, Reading: rule.Both,
			Threshold: rule.MaxThreshold, Effect: rule.Flag, Mode: rule.Shadow,
		})
	}
	if err := register.Fit(rules[:12]); err != nil {
		t.Errorf("12: %v", err)
	}
	if err := register.Fit(rules); err == nil || !strings.Contains(err.Error(), "lower thresholds, or run fewer rules") {
		t.Errorf("13: %v", err)
	}
}

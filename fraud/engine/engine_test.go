package engine_test

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

func pairs(threshold int, window time.Duration) rule.Rule {
	return rule.Rule{
		ID: "pairs", Title: "t", Key: rule.KeyActor, Events: []rule.Kind{rule.Visit, rule.Like}, Aggregate: rule.PairedDistinct,
		Reading: rule.Both, Window: rule.Window{Sliding: rule.Duration(window)}, Threshold: threshold, Effect: rule.Flag, Mode: rule.Live,
	}
}

// feed makes the n-th event of one actor, a second after the one before.
func feed(n int, eventType string, target int) *events.Recorded {
	at := start.Add(time.Duration(n) * time.Second)
	return &events.Recorded{
		Event: events.Event{
			ID: numbered(3, n), Type: eventType, Stream: uuid.UUID{1}, OccurredAt: at,
			Data: events.Activity{Target: numbered(2, target), JoinedAt: start.AddDate(-1, 0, 0)}.AppendJSON(nil),
		},
		Position:   events.Position{Partition: 5, Sequence: uint64(n)}, //nolint:gosec // positive
		RecordedAt: at,
	}
}

func TestBothIsExactUpToSixtyFourTimesTheThresholdAndThenForgetsTheOldest(t *testing.T) {
	for _, c := range []struct{ visited, forgotten, hits int }{{128, 0, 1}, {129, 1, 0}, {200, 72, 0}} {
		g := newEngine(t, pairs(2, time.Hour))
		n := 0
		next := func(eventType string, target int) []engine.Hit {
			n++
			return g.Process(feed(n, eventType, target), nil)
		}
		for i := range c.visited {
			next(events.ProfileVisited, i)
		}
		// The two that were visited first are liked last.
		hits := len(next(events.ProfileLiked, 0)) + len(next(events.ProfileLiked, 1))
		if hits != c.hits || g.Stats().Forgotten != uint64(c.forgotten) { //nolint:gosec // positive
			t.Errorf("%d visited: %d hits and %d forgotten, want %d and %d", c.visited, hits, g.Stats().Forgotten, c.hits, c.forgotten)
		}
	}
}

func TestAHitOnMoreEventsThanAFlagHoldsShowsTheLatest(t *testing.T) {
	r := pairs(1, 24*time.Hour)
	r.Aggregate, r.Reading, r.Threshold = rule.Count, "", engine.MaxEvidence+500
	g := newEngine(t, r)
	var hits []engine.Hit
	var all []events.Recorded
	for n := 1; len(hits) == 0; n++ {
		e := feed(n, events.ProfileLiked, n)
		hits = g.Process(e, hits)
		all = append(all, *e)
	}
	h := hits[0]
	if len(h.Evidence) != r.Threshold || !slices.IsSortedFunc(h.Evidence, func(a, b events.Position) int { return cmp.Compare(a.Sequence, b.Sequence) }) || h.Observed != r.Threshold {
		t.Fatalf("%d events of evidence, observed %d, want %d", len(h.Evidence), h.Observed, r.Threshold)
	}
	e, err := h.Flag(all[500:])
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Errorf("the flag does not fit into a log: %v", err)
	}
	f, err := events.Unmarshal[events.Flag](events.Recorded{Event: e})
	if err != nil || len(f.Evidence) != engine.MaxEvidence || f.Evidence[len(f.Evidence)-1].EventID != all[len(all)-1].ID {
		t.Errorf("%d events in the flag (%v)", len(f.Evidence), err)
	}
	if _, err := h.Flag(all[:engine.MaxEvidence]); err == nil {
		t.Error("it takes other events for evidence")
	}
	if _, err := h.Flag(all); err == nil {
		t.Error("it takes too many events for evidence")
	}
}

func TestAFlagSaysWhoDidWhatItRestsOnUnlessItIsItsUser(t *testing.T) {
	byTarget := pairs(2*engine.MaxEvidence, 24*time.Hour)
	byTarget.Key, byTarget.Aggregate, byTarget.Reading = rule.KeyTarget, rule.Count, ""
	g, err := engine.NewOrdered(engine.NewUsers(), []rule.Rule{byTarget}, 16)
	if err != nil {
		t.Fatal(err)
	}
	var hits []engine.Hit
	var all []events.Recorded
	for n := 0; len(hits) == 0; n++ {
		e := feed(n+1, events.ProfileVisited, 1)
		// As long as events can be.
		e.Stream, e.Position = numbered(1, n), events.Position{Partition: 15, Sequence: 60_000_000_000 + uint64(n)} //nolint:gosec // positive
		e.OccurredAt = e.OccurredAt.Add(123_456_789)
		hits = g.Process(e, hits)
		all = append(all, *e)
	}
	h := hits[0]
	e, err := h.Flag(all[len(all)-len(h.Shown()):])
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Validate(); err != nil {
		t.Errorf("the flag does not fit into a log: %v", err)
	}
	f, err := events.Unmarshal[events.Flag](events.Recorded{Event: e})
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Evidence) != engine.MaxOthersEvidence {
		t.Errorf("%d events in the flag", len(f.Evidence))
	}
	shown := all[len(all)-len(f.Evidence):]
	for i, one := range f.Evidence {
		if one.EventID != shown[i].ID || one.Actor != shown[i].Stream || one.Target != h.User || h.User != numbered(2, 1) {
			t.Fatalf("evidence %d is %+v, want %+v by %s", i, one, shown[i].ID, shown[i].Stream)
		}
	}
}

func TestAnOldAccountCostsARuleOnYoungOnesNothing(t *testing.T) {
	r := pairs(3, time.Hour)
	r.Window = rule.Window{SinceAccountCreation: rule.Duration(time.Hour)}
	g := newEngine(t, r)
	n := 0
	allocated := testing.AllocsPerRun(1000, func() {
		n++
		e := feed(n, events.ProfileVisited, n)
		if hits := g.Process(e, nil); hits != nil {
			t.Fatal(hits)
		}
	})
	made := testing.AllocsPerRun(1000, func() {
		n++
		feed(n, events.ProfileVisited, n)
	})
	if allocated > made {
		t.Errorf("%.0f allocations an event, of which the test makes %.0f", allocated, made)
	}
}

func TestWhatTheEngineSkipsIsCounted(t *testing.T) {
	g := newEngine(t, pairs(3, time.Hour))
	broken := feed(2, events.ProfileLiked, 1)
	broken.Data = []byte(`{"target":7}`)
	late := feed(5, events.ProfileLiked, 2)
	late.RecordedAt = start
	for _, e := range []*events.Recorded{
		feed(1, events.ProfileLiked, 1), broken, feed(3, events.ActorHidden, 1), feed(4, "activity.poked.v1", 1), late,
	} {
		for range 2 { // the second time it changes nothing
			g.Process(e, nil)
		}
	}
	want := engine.Stats{Events: 5, Activities: 3, Unreadable: 1, Backwards: 1, Keys: 1}
	if g.Stats() != want || g.Last() != 5 {
		t.Errorf("%+v at %d, want %+v", g.Stats(), g.Last(), want)
	}
}

func TestTheOrderAcrossActorsDoesNotMatter(t *testing.T) {
	feedTo := func(actor byte, n int) *events.Recorded {
		e := feed(n, events.ProfileLiked, n)
		e.Stream = uuid.UUID{actor}
		return e
	}
	r := pairs(2, time.Hour)
	r.Aggregate, r.Reading = rule.Count, ""
	run := func(list ...*events.Recorded) (hits []engine.Hit, stats engine.Stats) {
		g := newEngine(t, r)
		for _, e := range list {
			hits = g.Process(e, hits)
		}
		return hits, g.Stats()
	}
	a1, b2, a3, b4 := feedTo(1, 1), feedTo(2, 2), feedTo(1, 3), feedTo(2, 4)
	want, stats := run(a1, b2, a3, b4)
	if len(want) != 2 {
		t.Fatalf("%d hits, want 2", len(want))
	}
	slices.Reverse(want) // b hits first, when a's are late
	got, late := run(b2, b4, b2, a1, b4, a3, a1, a3)
	if !slices.EqualFunc(got, want, func(a, b engine.Hit) bool {
		return a.User == b.User && a.Position == b.Position && a.At.Equal(b.At) && slices.Equal(a.Evidence, b.Evidence)
	}) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if late != stats {
		t.Errorf("%+v, want %+v", late, stats)
	}
}

func TestRulesThatCannotRunTogetherAreRefused(t *testing.T) {
	good := pairs(3, time.Hour)
	if _, err := engine.New([]rule.Rule{good, good}); err == nil || !strings.Contains(err.Error(), "another rule has this id") {
		t.Errorf("one id twice: %v", err)
	}
	byTarget := pairs(3, time.Hour)
	byTarget.Key, byTarget.ID = rule.KeyTarget, "by-target"
	if _, err := engine.New([]rule.Rule{byTarget}); err == nil || !strings.Contains(err.Error(), "compile rule by-target: it needs the one order of all partitions") {
		t.Errorf("a rule by target in an engine of one partition: %v", err)
	}
	if _, err := engine.NewOrdered(engine.NewUsers(), []rule.Rule{byTarget, good}, 4); err == nil || !strings.Contains(err.Error(), "compile rule pairs: it looks at each actor for itself") {
		t.Errorf("a rule by actor in an engine of all partitions: %v", err)
	}
	if err := engine.Check([]rule.Rule{byTarget, good}); err != nil {
		t.Errorf("one beside the other: %v", err)
	}
	for _, twice := range []rule.Rule{byTarget, good} {
		if err := engine.Check([]rule.Rule{byTarget, good, twice}); err == nil || !strings.Contains(err.Error(), "another rule has this id") {
			t.Errorf("%s twice: %v", twice.ID, err)
		}
	}
	bad := good
	bad.Threshold = 0
	_, err := engine.New([]rule.Rule{bad})
	if faults, ok := errors.AsType[rule.Faults](err); !ok || faults[0].Field != "threshold" {
		t.Errorf("an invalid rule: %v", err)
	}
}

func TestAFlagExpiresWhenItsRuleSays(t *testing.T) {
	r := pairs(1, time.Hour)
	r.Aggregate, r.Reading, r.TimeToLive = rule.Count, "", rule.Duration(48*time.Hour)
	e := feed(1, events.ProfileLiked, 1)
	for _, ttl := range []rule.Duration{0, r.TimeToLive} {
		r.TimeToLive = ttl
		hits := newEngine(t, r).Process(e, nil)
		if len(hits) != 1 {
			t.Fatalf("%d hits", len(hits))
		}
		raised, err := hits[0].Flag([]events.Recorded{*e})
		if err != nil {
			t.Fatal(err)
		}
		f, err := events.Unmarshal[events.Flag](events.Recorded{Event: raised})
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case ttl == 0 && f.ExpiresAt != nil:
			t.Errorf("without a time to live it expires at %v", f.ExpiresAt)
		case ttl > 0 && (f.ExpiresAt == nil || !f.ExpiresAt.Equal(hits[0].At.Add(48*time.Hour))):
			t.Errorf("it expires at %v", f.ExpiresAt)
		}
	}
}

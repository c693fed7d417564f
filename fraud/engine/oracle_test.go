package engine_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// oracle is the naive engine: it keeps every event and counts anew each time.
type oracle struct {
	rules  []rule.Rule
	past   map[uuid.UUID][]seen // by actor
	above  map[string]bool      // by rule and actor
	latest map[uuid.UUID]time.Time
}

type seen struct {
	at       time.Time
	joined   time.Time
	kind     rule.Kind
	target   uuid.UUID
	sequence uint64
}

// found is a hit as both can tell it.
type found struct {
	Rule     string
	User     uuid.UUID
	At       time.Time
	Sequence uint64
	Observed int
	Evidence []uint64
}

var kindOf = map[string]rule.Kind{
	events.ProfileVisited: rule.Visit, events.ProfileLiked: rule.Like, events.LikeWithdrawn: rule.Unlike,
}

func (o *oracle) process(e events.Recorded) (hits []found) {
	kind, ok := kindOf[e.Type]
	a, err := events.ParseActivity(e.Data)
	if !ok || err != nil {
		return nil
	}
	at := events.RuleTime(e, a)
	if latest, ok := o.latest[e.Stream]; ok && at.Before(latest) {
		at = latest
	}
	o.latest[e.Stream] = at
	before := o.past[e.Stream]
	after := append(slices.Clone(before), seen{at, a.JoinedAt, kind, a.Target, e.Sequence})
	o.past[e.Stream] = after
	for _, r := range o.rules {
		if !slices.Contains(r.Events, kind) {
			continue
		}
		if d := time.Duration(r.Window.SinceAccountCreation); d > 0 && at.After(a.JoinedAt.Add(d)) {
			continue
		}
		name := r.ID + e.Stream.String()
		if n, _ := measure(r, inWindow(r, before, at)); n < r.Threshold {
			o.above[name] = false
		}
		n, evidence := measure(r, inWindow(r, after, at))
		if n >= r.Threshold && !o.above[name] {
			o.above[name] = true
			hits = append(hits, found{r.ID, e.Stream, at, e.Sequence, n, evidence})
		}
	}
	return hits
}

// inWindow is the events that count at a time, in order.
func inWindow(r rule.Rule, all []seen, at time.Time) (in []seen) {
	for _, s := range all {
		if !slices.Contains(r.Events, s.kind) {
			continue
		}
		if d := time.Duration(r.Window.Sliding); d > 0 && !s.at.Before(at.Add(-d)) {
			in = append(in, s)
		}
		if d := time.Duration(r.Window.SinceAccountCreation); d > 0 && !s.at.After(s.joined.Add(d)) {
			in = append(in, s)
		}
	}
	return in
}

// measure is the aggregate, and the events that it rests on once it has just
// come up to the threshold.
func measure(r rule.Rule, in []seen) (n int, evidence []uint64) {
	visited, liked, either := map[uuid.UUID]uint64{}, map[uuid.UUID]uint64{}, map[uuid.UUID]uint64{}
	for _, s := range in {
		either[s.target] = s.sequence
		switch s.kind {
		case rule.Visit:
			visited[s.target] = s.sequence
		case rule.Like:
			liked[s.target] = s.sequence
		}
	}
	switch {
	case r.Aggregate == rule.Count:
		for _, s := range in {
			evidence = append(evidence, s.sequence)
		}
		n = len(in)
	case r.Aggregate == rule.Distinct:
		n = len(either)
		for _, s := range either {
			evidence = append(evidence, s)
		}
	case r.Reading == rule.Both:
		for t, v := range visited {
			if l, ok := liked[t]; ok {
				n++
				evidence = append(evidence, v, l)
			}
		}
	case r.Reading == rule.Each:
		n = min(len(visited), len(liked))
		for _, of := range []map[uuid.UUID]uint64{visited, liked} {
			var last []uint64
			for _, s := range of {
				last = append(last, s)
			}
			slices.Sort(last)
			evidence = append(evidence, last[len(last)-min(n, len(last)):]...)
		}
	}
	slices.Sort(evidence)
	return n, evidence
}

func drawRules(t *rapid.T) []rule.Rule {
	var rules []rule.Rule
	for i := range rapid.IntRange(1, 5).Draw(t, "rules") {
		r := rule.Rule{
			ID: "rule-" + string(rune('a'+i)), Title: "t", Key: rule.KeyActor, Effect: rule.Flag, Mode: rule.Live,
			Threshold: rapid.IntRange(1, 12).Draw(t, "threshold"),
			Aggregate: rapid.SampledFrom([]rule.Aggregate{rule.Count, rule.Distinct, rule.PairedDistinct}).Draw(t, "aggregate"),
			Events:    rapid.SampledFrom([][]rule.Kind{{rule.Visit}, {rule.Like}, {rule.Visit, rule.Like, rule.Unlike}}).Draw(t, "events"),
		}
		if r.Aggregate == rule.PairedDistinct {
			r.Events = []rule.Kind{rule.Visit, rule.Like}
			r.Reading = rapid.SampledFrom([]rule.Reading{rule.Both, rule.Each}).Draw(t, "reading")
		}
		length := rule.Duration(time.Duration(rapid.IntRange(1, 20).Draw(t, "window")) * time.Second)
		if rapid.Bool().Draw(t, "sliding") {
			r.Window.Sliding = length
		} else {
			r.Window.SinceAccountCreation = length
		}
		rules = append(rules, r)
	}
	return rules
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// drawEvents draws a partition's events: few actors and targets, members and
// trusted sources, times that run backwards, types and payloads that are none of
// the engine's business.
func drawEvents(t *rapid.T) []events.Recorded {
	n := rapid.IntRange(0, 150).Draw(t, "events")
	targets := rapid.IntRange(1, 60).Draw(t, "targets")
	recorded := start
	out := make([]events.Recorded, 0, n)
	for i := range n {
		recorded = recorded.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "gap")) * time.Second / 2)
		actor := byte(rapid.IntRange(1, 3).Draw(t, "actor"))
		a := events.Activity{
			Target:   uuid.UUID{1, byte(rapid.IntRange(1, targets).Draw(t, "target"))},
			JoinedAt: start.Add(time.Duration(actor-1) * 10 * time.Second),
			Trusted:  rapid.IntRange(0, 3).Draw(t, "trusted") == 0,
		}
		e := events.Recorded{
			Event: events.Event{
				ID: uuid.UUID{2, byte(i), byte(i >> 8)}, Stream: uuid.UUID{3, actor}, Data: a.AppendJSON(nil),
				Type: rapid.SampledFrom([]string{
					events.ProfileVisited, events.ProfileVisited, events.ProfileLiked, events.ProfileLiked,
					events.LikeWithdrawn, events.ActorHidden, "activity.unheard_of.v9",
				}).Draw(t, "type"),
				OccurredAt: recorded.Add(time.Duration(rapid.IntRange(-20, 5).Draw(t, "late")) * time.Second),
			},
			Position:   events.Position{Partition: 3, Sequence: uint64(i + 1)}, //nolint:gosec // small
			RecordedAt: recorded,
		}
		if rapid.IntRange(0, 40).Draw(t, "broken") == 0 {
			e.Data = []byte(`{"target":`)
		}
		out = append(out, e)
	}
	return out
}

func TestHitsAreThoseOfAnEngineThatKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, evs := drawRules(t), drawEvents(t)
		g := newEngine(t, rules...)
		o := oracle{rules: rules, past: map[uuid.UUID][]seen{}, above: map[string]bool{}, latest: map[uuid.UUID]time.Time{}}
		for i := range evs {
			want := o.process(evs[i])
			got := tell(g.Process(&evs[i], nil))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("event %d (-want +got):\n%s", i+1, diff)
			}
		}
	})
}

func TestHitsDoNotDependOnBatchesRepetitionsOrOtherRules(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules, evs := drawRules(t), drawEvents(t)
		whole := newEngine(t, rules...)
		var want []engine.Hit
		for i := range evs {
			want = whole.Process(&evs[i], want)
		}
		// In pieces, each of which may come again from some way back.
		pieces := newEngine(t, rules...)
		var got []engine.Hit
		for at := 0; at < len(evs); {
			next := rapid.IntRange(at+1, len(evs)).Draw(t, "piece")
			for i := rapid.IntRange(0, at).Draw(t, "from"); i < next; i++ {
				got = pieces.Process(&evs[i], got)
			}
			at = next
		}
		if diff := cmp.Diff(tell(want), tell(got)); diff != "" {
			t.Fatalf("in pieces (-want +got):\n%s", diff)
		}
		// Each rule for itself.
		for _, r := range rules {
			alone := newEngine(t, r)
			var got, of []found
			for i := range evs {
				got = append(got, tell(alone.Process(&evs[i], nil))...)
			}
			for _, f := range tell(want) {
				if f.Rule == r.ID {
					of = append(of, f)
				}
			}
			if diff := cmp.Diff(of, got); diff != "" {
				t.Fatalf("rule %s alone (-want +got):\n%s", r.ID, diff)
			}
		}
	})
}

type fataler interface {
	Helper()
	Fatal(args ...any)
}

func newEngine(t fataler, rules ...rule.Rule) *engine.Engine {
	t.Helper()
	g, err := engine.New(rules)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func tell(hits []engine.Hit) (out []found) {
	for _, h := range hits {
		out = append(out, found{h.Rule.ID, h.User, h.At, h.Position.Sequence, h.Observed, h.Evidence})
	}
	return out
}

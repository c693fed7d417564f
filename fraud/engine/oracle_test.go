package engine_test

import (
	stdcmp "cmp"
	"maps"
	"math/big"
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
	rules    []rule.Rule
	byTarget bool
	n        int
	keys     map[uuid.UUID]*known
	taken    map[string]*counted // by rule and key
}

// known is what the oracle knows of a key.
type known struct{ latest, first, joined time.Time }

// counted is what counts for a rule of an actor.
type counted struct {
	events     []seen
	candidates []seen // those whose target is yet to be looked at
	above      bool
	spent      bool
}

// positions are where events are, in the order of time.
func positions(list []seen) (out []events.Position) {
	slices.SortFunc(list, func(a, b seen) int {
		return stdcmp.Or(a.at.Compare(b.at), stdcmp.Compare(a.place.Partition, b.place.Partition), stdcmp.Compare(a.place.Sequence, b.place.Sequence))
	})
	for _, s := range list {
		out = append(out, s.place)
	}
	return out
}

type seen struct {
	at    time.Time
	kind  rule.Kind
	other uuid.UUID
	place events.Position
	n     int // of all events
}

// found is a hit as both can tell it.
type found struct {
	Rule     string
	User     uuid.UUID
	At       time.Time
	Position events.Position
	Observed int
	Evidence []events.Position
}

var kindOf = map[string]rule.Kind{
	events.ProfileVisited: rule.Visit, events.ProfileLiked: rule.Like, events.LikeWithdrawn: rule.Unlike,
}

func newOracle(rules []rule.Rule) *oracle {
	return &oracle{rules: rules, keys: map[uuid.UUID]*known{}, taken: map[string]*counted{}}
}

func (o *oracle) process(e events.Recorded) (hits []found) {
	kind, ok := kindOf[e.Type]
	a, err := events.ParseActivity(e.Data)
	if !ok || err != nil {
		return nil
	}
	at := events.RuleTime(e, a)
	user, other := e.Stream, a.Target
	if o.byTarget {
		user, other = other, user
	}
	key := o.keys[user]
	if key == nil {
		key = &known{at, at, a.JoinedAt}
		o.keys[user] = key
	}
	if at.Before(key.latest) {
		at = key.latest
	}
	key.latest = at
	joined := key.joined
	if o.byTarget {
		joined = a.JoinedAt
	}
	for _, r := range o.rules {
		if !slices.Contains(r.Events, kind) {
			continue
		}
		from, open := bounds(r.Window, at, key)
		if !open || !holds(r.Where, at, at.Sub(joined)) {
			continue
		}
		name := r.ID + user.String()
		of := o.taken[name]
		if of == nil {
			of = &counted{}
			o.taken[name] = of
		}
		if of.spent {
			continue
		}
		o.n++
		one := seen{at, kind, other, e.Position, o.n}
		if r.Where.Target != "" {
			met := slices.ContainsFunc(since(of.candidates, from), func(s seen) bool { return s.other == other })
			of.candidates = append(of.candidates, one)
			if met != (r.Where.Target == rule.Repeated) {
				continue
			}
		}
		if _, _, reached := measure(r, of.events, at, from); !reached {
			of.above = false
		}
		of.events = append(of.events, one)
		observed, evidence, reached := measure(r, of.events, at, from)
		if reached && !of.above {
			of.above, of.spent = true, r.Window.Sliding == 0
			hits = append(hits, found{r.ID, user, at, e.Position, observed, positions(evidence)})
		}
	}
	return hits
}

func bounds(w rule.Window, at time.Time, actor *known) (from time.Time, open bool) {
	switch {
	case w.Sliding > 0:
		return at.Add(-time.Duration(w.Sliding)), true
	case w.SinceFirstEvent > 0:
		return time.Time{}, !at.After(actor.first.Add(time.Duration(w.SinceFirstEvent)))
	}
	return time.Time{}, !at.After(actor.joined.Add(time.Duration(w.SinceAccountCreation)))
}

func holds(w rule.Where, at time.Time, age time.Duration) bool {
	if age := rule.Duration(age); w.AccountAge.AtLeast > 0 && age < w.AccountAge.AtLeast || w.AccountAge.Below > 0 && age >= w.AccountAge.Below {
		return false
	}
	if w.Hour == (rule.Hours{}) {
		return true
	}
	for hour := w.Hour.From; ; hour++ {
		if hour%24 == w.Hour.Until%24 {
			return false
		}
		if hour%24 == at.Hour() {
			return true
		}
	}
}

func since(list []seen, from time.Time) (in []seen) {
	for _, s := range list {
		if !s.at.Before(from) {
			in = append(in, s)
		}
	}
	return in
}

// measure is the aggregate, the events that it rests on once it has just come up to
// the threshold, and whether it has.
func measure(r rule.Rule, all []seen, at, from time.Time) (n int, evidence []seen, reached bool) {
	in := since(all, from)
	switch r.Aggregate {
	case rule.InRatio:
		return measureRatio(r, in)
	case rule.InRegularity:
		length, _ := r.Window.Length()
		return measureRegularity(r, since(in, at.Add(-time.Duration(length))))
	case rule.InSequence:
		return measureSequence(r, all, from)
	}
	n, evidence = countIn(r, in)
	return n, evidence, n >= r.Threshold
}

func measureRatio(r rule.Rule, in []seen) (n int, evidence []seen, reached bool) {
	if len(in) < r.Ratio.Volume {
		return 0, nil, false
	}
	of, per := 0, 0
	for _, s := range in[len(in)-r.Ratio.Volume:] {
		if s.kind == r.Ratio.Of {
			of++
		} else {
			per++
		}
		evidence = append(evidence, s)
	}
	n = 100 * of / max(per, 1)
	return n, evidence, float64(100*of) >= float64(r.Threshold*max(per, 1))
}

func measureRegularity(r rule.Rule, in []seen) (n int, evidence []seen, reached bool) {
	if len(in) < r.Threshold+1 {
		return 0, nil, false
	}
	in = in[len(in)-r.Threshold-1:]
	var gaps []*big.Rat
	sum, squares := new(big.Rat), new(big.Rat)
	for i, s := range in {
		evidence = append(evidence, s)
		if i > 0 {
			gap := big.NewRat(s.at.UnixMilli()-in[i-1].at.UnixMilli(), 1)
			gaps = append(gaps, gap)
			sum.Add(sum, gap)
		}
	}
	count := big.NewRat(int64(len(gaps)), 1)
	mean := new(big.Rat).Quo(sum, count)
	if mean.Sign() == 0 {
		return 0, nil, false
	}
	for _, gap := range gaps {
		off := new(big.Rat).Sub(gap, mean)
		squares.Add(squares, off.Mul(off, off))
	}
	variance := squares.Quo(squares, count)
	limit := big.NewRat(int64(r.Regularity.Variation), 100)
	limit.Mul(limit, limit).Mul(limit, mean).Mul(limit, mean)
	return r.Threshold, evidence, variance.Cmp(limit) <= 0
}

func measureSequence(r rule.Rule, all []seen, from time.Time) (n int, evidence []seen, reached bool) {
	waiting := map[uuid.UUID]seen{}
	for _, s := range all {
		if s.kind == r.Sequence.First {
			waiting[s.other] = s
			continue
		}
		first, ok := waiting[s.other]
		if !ok || s.at.Sub(first.at) > time.Duration(r.Sequence.Within) {
			continue
		}
		delete(waiting, s.other)
		if !s.at.Before(from) {
			n++
			evidence = append(evidence, first, s)
		}
	}
	return n, evidence, n >= r.Threshold
}

func countIn(r rule.Rule, in []seen) (n int, evidence []seen) {
	visited, liked, either := map[uuid.UUID]seen{}, map[uuid.UUID]seen{}, map[uuid.UUID]seen{}
	for _, s := range in {
		either[s.other] = s
		switch s.kind {
		case rule.Visit:
			visited[s.other] = s
		case rule.Like:
			liked[s.other] = s
		}
	}
	switch {
	case r.Aggregate == rule.Count:
		n, evidence = len(in), slices.Clone(in)
	case r.Aggregate == rule.Distinct || r.Aggregate == rule.Burst:
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
		for _, of := range []map[uuid.UUID]seen{visited, liked} {
			last := slices.SortedFunc(maps.Values(of), func(a, b seen) int { return stdcmp.Compare(a.n, b.n) })
			evidence = append(evidence, last[len(last)-min(n, len(last)):]...)
		}
	}
	return n, evidence
}

func drawRules(t *rapid.T) []rule.Rule { return drawRulesBy(t, rule.KeyActor) }

func drawRulesBy(t *rapid.T, key rule.Key) []rule.Rule {
	var rules []rule.Rule
	for i := range rapid.IntRange(1, 6).Draw(t, "rules") {
		r := rule.Rule{
			ID: "rule-" + string(rune('a'+i)), Title: "t", Key: key, Effect: rule.Flag, Mode: rule.Live,
			Threshold: rapid.IntRange(1, rapid.SampledFrom([]int{12, 12, 60}).Draw(t, "most")).Draw(t, "threshold"),
			Aggregate: rapid.SampledFrom([]rule.Aggregate{
				rule.Count, rule.Distinct, rule.PairedDistinct, rule.PairedDistinct, rule.InRatio, rule.InSequence, rule.InRegularity,
			}).Draw(t, "aggregate"),
			Events: rapid.SampledFrom([][]rule.Kind{{rule.Visit}, {rule.Like}, {rule.Visit, rule.Like, rule.Unlike}}).Draw(t, "events"),
			Where:  drawWhere(t),
		}
		length := rule.Duration(time.Duration(rapid.IntRange(1, rapid.SampledFrom([]int{20, 20, 600}).Draw(t, "long")).Draw(t, "window")) * time.Second)
		switch r.Aggregate {
		case rule.PairedDistinct:
			r.Events, r.Where.Target = []rule.Kind{rule.Visit, rule.Like}, ""
			r.Reading = rapid.SampledFrom([]rule.Reading{rule.Both, rule.Each}).Draw(t, "reading")
		case rule.InRatio:
			r.Events = []rule.Kind{rule.Visit, rule.Like}
			r.Ratio = &rule.Ratio{Of: rule.Like, Per: rule.Visit, Volume: rapid.IntRange(2, 10).Draw(t, "volume")}
			r.Threshold = 25 * min(r.Threshold, 12)
		case rule.InSequence:
			r.Events, r.Where.Target = []rule.Kind{rule.Visit, rule.Like}, ""
			within := min(length, rule.Duration(time.Duration(rapid.IntRange(1, 20).Draw(t, "within"))*time.Second/2))
			r.Sequence = &rule.Sequence{First: rule.Visit, Then: rule.Like, Within: within}
		case rule.InRegularity:
			r.Threshold = 4 + max(1, r.Threshold/4)
			r.Regularity = &rule.Regularity{Variation: rapid.IntRange(0, 100).Draw(t, "variation")}
			length *= 3
		}
		if key == rule.KeyTarget {
			r.Where.Target = ""
			if r.Aggregate == rule.Distinct && rapid.Bool().Draw(t, "burst") {
				r.Aggregate, r.Where = rule.Burst, rule.Where{AccountAge: rule.Age{Below: rule.Duration(time.Minute)}}
			}
		}
		switch anchor := rapid.IntRange(0, 4).Draw(t, "anchor"); {
		case anchor == 0 && key == rule.KeyActor:
			r.Window.SinceAccountCreation = length
		case anchor == 1:
			r.Window.SinceFirstEvent = length
		default:
			r.Window.Sliding = length
		}
		rules = append(rules, r)
	}
	return rules
}

func drawWhere(t *rapid.T) (w rule.Where) {
	switch rapid.IntRange(0, 8).Draw(t, "where") {
	case 0:
		w.AccountAge.Below = rule.Duration(time.Duration(rapid.IntRange(1, 60).Draw(t, "below")) * time.Second)
	case 1:
		w.AccountAge.AtLeast = rule.Duration(time.Duration(rapid.IntRange(1, 60).Draw(t, "at least")) * time.Second)
	case 2:
		w.Hour = rapid.SampledFrom([]rule.Hours{{From: 12, Until: 13}, {From: 12, Until: 24}, {From: 13, Until: 12}, {From: 22, Until: 13}}).Draw(t, "hours")
	case 3:
		w.Target = rule.Repeated
	case 4:
		w.Target = rule.New
	}
	return w
}

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// drawEvents draws a partition's events: few actors and targets, members and
// trusted sources, times that run backwards, types and payloads that are none of
// the engine's business.
func drawEvents(t *rapid.T) []events.Recorded {
	n := rapid.IntRange(0, rapid.SampledFrom([]int{150, 150, 600}).Draw(t, "most events")).Draw(t, "events")
	targets := rapid.IntRange(1, 60).Draw(t, "targets")
	recorded := start
	even := 0 // so many of the next events come at even times
	out := make([]events.Recorded, 0, n)
	for i := range n {
		if even--; even < 0 {
			recorded = recorded.Add(time.Duration(rapid.IntRange(0, 4).Draw(t, "gap")) * time.Second / 2)
			even = 8 * rapid.IntRange(-40, 4).Draw(t, "even")
		} else {
			recorded = recorded.Add(time.Second)
		}
		if rapid.IntRange(0, 60).Draw(t, "pause") == 0 {
			recorded = recorded.Add(time.Hour / 2)
		}
		actor := byte(rapid.IntRange(1, 3).Draw(t, "actor"))
		a := events.Activity{
			Target:   uuid.UUID{1, byte(rapid.IntRange(1, targets).Draw(t, "target"))},
			JoinedAt: start.Add(time.Duration(actor-1)*10*time.Second + time.Duration(rapid.IntRange(0, 30).Draw(t, "joined")/30)*time.Minute),
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
		o := newOracle(rules)
		for i := range evs {
			want := o.process(evs[i])
			got := tell(g.Process(&evs[i], nil))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("event %d (-want +got):\n%s", i+1, diff)
			}
		}
	})
}

func TestHitsByTargetAreThoseOfAnEngineThatKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const partitions = 5
		rules, evs := drawRulesBy(t, rule.KeyTarget), drawEvents(t)
		g, err := engine.NewOrdered(engine.NewUsers(), rules, partitions)
		if err != nil {
			t.Fatal(err)
		}
		o := newOracle(rules)
		o.byTarget = true
		for i := range evs {
			// As many targets as there were actors, in the partitions of many actors.
			a, err := events.ParseActivity(evs[i].Data)
			if err == nil {
				evs[i].Stream, a.Target = a.Target, evs[i].Stream
				evs[i].Data = a.AppendJSON(nil)
				evs[i].Partition = int(evs[i].Stream[1]) % partitions
			}
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
		out = append(out, found{h.Rule.ID, h.User, h.At, h.Position, h.Observed, h.Evidence})
	}
	return out
}

package engine_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/rulebook"
)

// traffic is a partition's events of so many actors and 1,000 targets, a third
// of the accounts made less than ten minutes ago.
func traffic(n, actors int) []events.Recorded {
	r := rand.New(rand.NewPCG(1, 2))
	evs := make([]events.Recorded, n)
	for i := range evs {
		actor := r.IntN(actors)
		joined := start.Add(-time.Duration(actor%3) * time.Hour)
		at := start.Add(time.Duration(i) * 10 * time.Millisecond)
		a := events.Activity{Target: numbered(2, r.IntN(1000)), JoinedAt: joined}
		e := events.Event{ID: numbered(3, i), Type: events.ProfileVisited, Stream: numbered(1, actor), OccurredAt: at, Data: a.AppendJSON(nil)}
		if r.IntN(4) == 0 {
			e.Type = events.ProfileLiked
		}
		evs[i] = events.Recorded{Event: e, RecordedAt: at}
	}
	return evs
}

func numbered(sort byte, n int) uuid.UUID {
	return uuid.NewSHA1(uuid.UUID{sort}, fmt.Append(nil, n))
}

// book is the rules of the book, or those that are named.
func book(tb testing.TB, ids ...string) (rules []rule.Rule) {
	all, err := rulebook.Rules()
	if err != nil {
		tb.Fatal(err)
	}
	for _, r := range all {
		if len(ids) == 0 || slices.Contains(ids, r.ID) {
			rules = append(rules, r)
		}
	}
	return rules
}

// shipped is those of them that need no order.
func shipped(tb testing.TB, ids ...string) []rule.Rule {
	byActor, _ := engine.Split(book(tb, ids...))
	return byActor
}

// BenchmarkProcess is one event through an engine, at 10,000 actors of a
// partition.
func BenchmarkProcess(b *testing.B) {
	all := shipped(b)
	for len(all) < 50 {
		r := all[len(all)%4]
		r.ID = fmt.Sprintf("%s-%d", r.ID, len(all))
		r.Threshold += len(all)
		all = append(all, r)
	}
	for _, c := range []struct {
		name  string
		rules []rule.Rule
	}{
		{"meet5", shipped(b, "meet5-first-minutes")},
		{"distinct", shipped(b, "visit-scraping")},
		{"count", shipped(b, "like-storm")},
		{"book", shipped(b)},
		{"fifty", all},
		{"burst", book(b, "newcomers-burst")},
		{"lockstep", book(b, "lockstep-ring")},
	} {
		b.Run(c.name, func(b *testing.B) {
			evs := traffic(1_000_000, 10_000)
			var g *engine.Engine
			if c.rules[0].Ordered() {
				g = newOrdered(b, engine.NewUsers(), 16, c.rules...)
			} else {
				g = newEngine(b, c.rules...)
			}
			var hits []engine.Hit
			sequence := uint64(0)
			b.ReportAllocs()
			for b.Loop() {
				e := &evs[sequence%uint64(len(evs))]
				sequence++
				e.Sequence = sequence
				hits = g.Process(e, hits[:0])
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkLockstepAtWorst is one like within a group as large as can be: 256 accounts
// that have all liked the same 64 people, and have been hit.
func BenchmarkLockstepAtWorst(b *testing.B) {
	r := book(b, "lockstep-ring")[0]
	g := newOrdered(b, engine.NewUsers(), 1, r)
	var evs []events.Recorded
	for account := range rule.LockstepAccounts {
		for target := range rule.LockstepTargets {
			evs = append(evs, meet(account, target, 0, 0))
		}
	}
	var hits []engine.Hit
	n := uint64(0)
	next := func() {
		e := &evs[n%uint64(len(evs))]
		n++
		e.Sequence = n
		hits = g.Process(e, hits)
	}
	for range evs {
		next()
	}
	if len(hits) != rule.LockstepAccounts {
		b.Fatalf("%d hits", len(hits))
	}
	for b.Loop() {
		next()
	}
}

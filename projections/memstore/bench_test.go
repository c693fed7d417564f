package memstore_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/views"
)

const (
	actors, targets = 8_227, 1_000
	// visits is as many as the file of edits has that the project is shown with.
	visits    = 157_474
	batchSize = 1000
)

// batches are visits of one partition, as a subscription brings them. Each actor
// visits a few targets again and again.
func batches(kept int) []subscription.Batch {
	random := rand.New(rand.NewPCG(1, 2))
	id := func(n int) (u uuid.UUID) {
		binary.BigEndian.PutUint64(u[8:], uint64(n+1))
		return u
	}
	var out []subscription.Batch
	for n := range visits {
		if n%batchSize == 0 {
			out = append(out, subscription.Batch{Log: events.ActivityLog})
		}
		actor := random.IntN(actors)
		target := actors + (actor*31+random.IntN(kept))%targets
		at := time.Unix(int64(n), 0)
		b := &out[len(out)-1]
		b.Events = append(b.Events, events.Recorded{
			Event: events.Event{
				Stream: id(actor), Type: events.ProfileVisited, OccurredAt: at,
				Data: events.Activity{Target: id(target), JoinedAt: at}.AppendJSON(nil),
			},
			Position: events.Position{Sequence: uint64(n + 1)},
		})
	}
	return out
}

func pairsOf(b *testing.B, input []subscription.Batch) int {
	pairs := make(map[[32]byte]bool)
	for _, in := range input {
		read, err := views.Read(in)
		if err != nil {
			b.Fatal(err)
		}
		for _, c := range read.Changes {
			pairs[[32]byte(append(c.Actor[:], c.Target[:]...))] = true
		}
	}
	return len(pairs)
}

// BenchmarkRebuild folds 157,474 visits, payloads and all, and reports what the
// store then holds per pair of users, the users themselves included.
func BenchmarkRebuild(b *testing.B) {
	for name, kept := range map[string]int{"2 targets an actor": 2, "100 targets an actor": 100} {
		b.Run(name, func(b *testing.B) {
			input := batches(kept)
			pairs := pairsOf(b, input)
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var s *memstore.Store
			for b.Loop() {
				s = memstore.New()
				handle := views.Handler(s)
				for _, in := range input {
					if err := handle(context.Background(), in); err != nil {
						b.Fatal(err)
					}
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			runtime.KeepAlive(s)
			runtime.KeepAlive(input)
			b.ReportMetric(float64(b.N)*visits/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(pairs), "B/pair")
			b.ReportMetric(float64(pairs), "pairs")
		})
	}
}

// BenchmarkVisitors reads a first page of a profile that thousands have visited.
func BenchmarkVisitors(b *testing.B) {
	s := memstore.New()
	handle := views.Handler(s)
	for _, in := range batches(100) {
		if err := handle(context.Background(), in); err != nil {
			b.Fatal(err)
		}
	}
	var target uuid.UUID
	binary.BigEndian.PutUint64(target[8:], actors+1)
	var n views.Stats
	for b.Loop() {
		var err error
		if _, err = s.Visitors(context.Background(), target, views.Page{Limit: 51}); err != nil {
			b.Fatal(err)
		}
		if n, err = s.Stats(context.Background(), target); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n.UniqueVisitors), "visitors")
}

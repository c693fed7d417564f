package order_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/fraud/order"
)

// BenchmarkReader reads 400,000 events of 16 partitions from the embedded log: each
// partition for itself, which is the limit, and in the one order of all, with one cut and
// with 4,000.
func BenchmarkReader(b *testing.B) {
	const partitions, count, commit = 16, 400_000, 100
	db, err := boltlog.Open(filepath.Join(b.TempDir(), "log.db"))
	if err != nil {
		b.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, partitions)
	if err != nil {
		b.Fatal(err)
	}
	l := log.New(store, log.Options{})
	defer func() {
		l.Close()
		_ = db.Close()
	}()
	cuts := []order.Cut{}
	heads := make(order.Cut, partitions)
	for n := 0; n < count; n += commit {
		evs, actor := make([]events.Event, commit), uuid.New()
		for i := range evs {
			evs[i] = events.Event{
				ID: uuid.New(), Stream: actor, OccurredAt: start.Add(time.Duration(n+i) * time.Second), Type: events.ProfileLiked,
				Data: events.Activity{Target: uuid.UUID{byte(i)}, JoinedAt: start, Trusted: true}.AppendJSON(nil),
			}
		}
		heads[events.PartitionOf(actor, partitions)] += commit
		if _, err := l.Append(b.Context(), evs...); err != nil {
			b.Fatal(err)
		}
		cuts = append(cuts, append(order.Cut{}, heads...))
	}
	report := func(b *testing.B, n int) {
		if n != count*b.N {
			b.Fatalf("%d events, want %d", n, count*b.N)
		}
		b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("each partition", func(b *testing.B) {
		n := 0
		for b.Loop() {
			for p := range partitions {
				for _, err := range log.Events(b.Context(), l, p, 0) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
			}
		}
		report(b, n)
	})
	for name, cuts := range map[string][]order.Cut{"one cut": {heads}, "4,000 cuts": cuts} {
		b.Run(name, func(b *testing.B) {
			n := 0
			for b.Loop() {
				r := order.NewReader(b.Context(), l)
				for _, c := range cuts {
					for _, err := range r.To(c) {
						if err != nil {
							b.Fatal(err)
						}
						n++
					}
				}
				r.Close()
			}
			report(b, n)
		})
	}
}

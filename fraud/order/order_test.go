package order_test

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/fraud/order"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const partitions = 4

func openLog(t testing.TB, clock func() time.Time) *log.Log {
	t.Helper()
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, partitions)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store, log.Options{Clock: clock})
	t.Cleanup(func() {
		l.Close()
		_ = db.Close()
	})
	return l
}

func streamOf(partition int) (id uuid.UUID) {
	for id = uuid.New(); events.PartitionOf(id, partitions) != partition; {
		id = uuid.New()
	}
	return id
}

// TestTheOrderIsThatOfTimeWithinCutsAndOfSequencesWithinPartitions compares it with
// sorting.
func TestTheOrderIsThatOfTimeWithinCutsAndOfSequencesWithinPartitions(t *testing.T) {
	streams := make([]uuid.UUID, partitions)
	for p := range streams {
		streams[p] = streamOf(p)
	}
	rapid.Check(t, func(rt *rapid.T) {
		now := start
		l := openLog(t, func() time.Time { return now })
		all := make([][]events.Recorded, partitions)
		cuts := []order.Cut{make(order.Cut, partitions)}
		for i := range rapid.IntRange(0, 80).Draw(rt, "events") {
			now = now.Add(time.Duration(rapid.IntRange(0, 2).Draw(rt, "pause")) * time.Second)
			p := rapid.IntRange(0, partitions-1).Draw(rt, "partition")
			e := events.Event{
				ID: uuid.New(), Stream: streams[p], OccurredAt: now.Add(time.Duration(rapid.IntRange(-9, 3).Draw(rt, "late")) * time.Second),
				Type: rapid.SampledFrom([]string{events.ProfileVisited, events.ProfileLiked, events.ActorHidden}).Draw(rt, "type"),
				Data: events.Activity{Target: uuid.UUID{1}, JoinedAt: start, Trusted: rapid.Bool().Draw(rt, "trusted")}.AppendJSON(nil),
			}
			if i%7 == 3 {
				e.Data = []byte("{")
			}
			at, err := l.Append(t.Context(), e)
			if err != nil {
				rt.Fatal(err)
			}
			all[p] = append(all[p], events.Recorded{Event: e, Position: at[0].Position, RecordedAt: now})
			if rapid.IntRange(0, 9).Draw(rt, "cut") == 0 {
				cuts = append(cuts, headsOf(all))
			}
		}
		cuts = append(cuts, headsOf(all))
		for i, to := range cuts[1:] {
			from := cuts[i]
			type timed struct {
				at events.Position
				t  time.Time
			}
			var want []timed
			for p, list := range all {
				var latest time.Time
				for _, e := range list[from[p]:to[p]] {
					at := e.RecordedAt
					if a, err := events.ParseActivity(e.Data); err == nil && a.Trusted && e.Type != events.ActorHidden {
						at = e.OccurredAt
					}
					if at.After(latest) {
						latest = at
					}
					want = append(want, timed{e.Position, latest})
				}
			}
			slices.SortStableFunc(want, func(a, b timed) int { return cmp.Or(a.t.Compare(b.t), cmp.Compare(a.at.Partition, b.at.Partition)) })
			var got, wanted []events.Position
			for _, w := range want {
				wanted = append(wanted, w.at)
			}
			for e, err := range order.Between(t.Context(), l, from, to) {
				if err != nil {
					rt.Fatal(err)
				}
				got = append(got, e.Position)
			}
			if diff := gocmp.Diff(wanted, got); diff != "" {
				rt.Fatalf("from %v to %v (-want +got):\n%s", from, to, diff)
			}
		}
	})
}

func headsOf(all [][]events.Recorded) order.Cut {
	c := make(order.Cut, len(all))
	for p := range all {
		c[p] = uint64(len(all[p]))
	}
	return c
}

func TestACutBeyondTheLogIsAnError(t *testing.T) {
	l := openLog(t, time.Now)
	e := events.Event{ID: uuid.New(), Type: events.ActorHidden, Stream: streamOf(2), OccurredAt: start, Data: []byte("{}")}
	if _, err := l.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	last := func(ctx context.Context, to order.Cut) (n int, last error) {
		for _, err := range order.Between(ctx, l, make(order.Cut, partitions), to) {
			if last = err; err == nil {
				n++
			}
		}
		return n, last
	}
	if n, err := last(t.Context(), order.Cut{0, 0, 2, 0}); !errors.Is(err, log.ErrNotFound) || n != 1 {
		t.Errorf("%d events, %v", n, err)
	}
	if n, err := last(t.Context(), order.Cut{1, 0, 1, 0}); !errors.Is(err, log.ErrNotFound) || n != 0 {
		t.Errorf("%d events, %v", n, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := last(ctx, order.Cut{0, 0, 1, 0}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

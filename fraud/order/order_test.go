package order_test

import (
	"cmp"
	"context"
	"errors"
	"iter"
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
		r := order.NewReader(t.Context(), l)
		defer r.Close()
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
			for more := true; more; { // as often as somebody breaks off
				more = false
				for e, err := range r.To(to) {
					if err != nil {
						rt.Fatal(err)
					}
					got = append(got, e.Position)
					if more = rapid.IntRange(0, 9).Draw(rt, "break off") == 0; more {
						break
					}
				}
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
		r := order.NewReader(ctx, l)
		defer r.Close()
		for _, err := range r.To(to) {
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

// What is appended while a reader is open is read, too, and so is what an error has kept
// from it.
func TestAReaderGoesOnWhereItStood(t *testing.T) {
	l := openLog(t, func() time.Time { return start })
	stream := streamOf(1)
	post := func() {
		e := events.Event{ID: uuid.New(), Type: events.ActorHidden, Stream: stream, OccurredAt: start, Data: []byte("{}")}
		if _, err := l.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	faulty := &faultyReader{Reader: l}
	r := order.NewReader(t.Context(), faulty)
	defer r.Close()
	var got []uint64
	read := func(to uint64) (last error) {
		for e, err := range r.To(order.Cut{0, to}) {
			if last = err; err == nil {
				got = append(got, e.Sequence)
			}
		}
		return last
	}
	post()
	post()
	if err := read(1); err != nil {
		t.Fatal(err)
	}
	post()
	faulty.down = true
	if err := read(3); !errors.Is(err, errDown) {
		t.Fatalf("with the log away: %v", err)
	}
	faulty.down = false
	if err := read(3); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]uint64{1, 2, 3}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var errDown = errors.New("the log is away")

// faultyReader is a log that can be away.
type faultyReader struct {
	log.Reader
	down bool
}

func (f *faultyReader) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		for c, err := range f.Reader.Read(ctx, partition, after) {
			if f.down {
				c, err = events.Commit{}, errDown
			}
			if !yield(c, err) || err != nil {
				return
			}
		}
	}
}

// TestTheOrderOfAllFollowsFromTheCutsOnRecord: several make cuts at once, some twice; who
// reads them later, or comes with older heads, gets the same order.
func TestTheOrderOfAllFollowsFromTheCutsOnRecord(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		l := openLog(t, func() time.Time { return start })
		db, err := boltlog.Open(filepath.Join(t.TempDir(), "fraud.db"))
		if err != nil {
			t.Fatal(err)
		}
		store, err := db.Log(events.FraudLog, events.FraudPartitions)
		if err != nil {
			t.Fatal(err)
		}
		fraud := log.New(store, log.Options{})
		t.Cleanup(func() {
			fraud.Close()
			_ = db.Close()
		})
		tips := []*order.Tip{order.NewTip(), order.NewTip()}
		folded := make([]uint64, len(tips))
		fold := func(i int) {
			for e, err := range log.Events(t.Context(), fraud, 0, folded[i]) {
				if err != nil {
					rt.Fatal(err)
				}
				tips[i].Apply(e)
				tips[i].Apply(e) // again, as after a fault
				folded[i] = e.Sequence
			}
		}
		var live []events.Position
		r := order.NewReader(t.Context(), l)
		defer r.Close()
		var last order.Recorded
		now := start
		for range rapid.IntRange(0, 40).Draw(rt, "steps") {
			switch i := rapid.IntRange(0, 1).Draw(rt, "instance"); rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0, 1:
				now = now.Add(time.Duration(rapid.IntRange(-9, 9).Draw(rt, "later")) * time.Second)
				e := events.Event{
					ID: uuid.New(), Stream: streamOf(rapid.IntRange(0, partitions-1).Draw(rt, "partition")), OccurredAt: now, Type: events.ProfileLiked,
					Data: events.Activity{Target: uuid.UUID{1}, JoinedAt: start, Trusted: true}.AppendJSON(nil),
				}
				if _, err := l.Append(t.Context(), e); err != nil {
					rt.Fatal(err)
				}
			case 2: // it may know of fewer cuts than there are
				heads, err := order.Heads(t.Context(), l)
				if err != nil {
					rt.Fatal(err)
				}
				tip, _ := tips[i].Last()
				e, ok, err := tip.Next(heads, start)
				if err != nil {
					rt.Fatal(err)
				}
				if ok {
					if _, err := fraud.Append(t.Context(), e); err != nil && !errors.Is(err, log.ErrConflict) {
						rt.Fatal(err)
					}
				}
			case 3:
				fold(i)
			}
		}
		for c, err := range order.After(t.Context(), fraud, last) {
			if err != nil {
				rt.Fatal(err)
			}
			if c.Number != last.Number+1 || !c.Through.Covers(last.Through) {
				rt.Fatalf("cut %+v follows %+v", c, last)
			}
			for e, err := range r.To(c.Through) {
				if err != nil {
					rt.Fatal(err)
				}
				live = append(live, e.Position)
			}
			last = c
		}
		fold(0)
		fold(1)
		for _, tip := range tips {
			if got, _ := tip.Last(); gocmp.Diff(last, got) != "" {
				rt.Fatalf("the last cut is %+v, not %+v", got, last)
			}
		}
		heads, err := order.Heads(t.Context(), l)
		if err != nil {
			rt.Fatal(err)
		}
		var replayed []events.Position
		for e, err := range order.All(t.Context(), l, fraud, heads) {
			if err != nil {
				rt.Fatal(err)
			}
			replayed = append(replayed, e.Position)
		}
		if slices.Compare(positions(live), positions(replayed[:len(live)])) != 0 {
			rt.Fatalf("live %v, replayed %v", live, replayed)
		}
		n := 0
		for _, head := range heads {
			n += int(head)
		}
		if len(replayed) != n {
			rt.Fatalf("%d events of %d", len(replayed), n)
		}
		older := make(order.Cut, partitions)
		for p := range older {
			older[p] = uint64(rapid.IntRange(0, int(heads[p])).Draw(rt, "older head"))
		}
		want := slices.DeleteFunc(slices.Clone(replayed), func(at events.Position) bool { return at.Sequence > older[at.Partition] })
		var got []events.Position
		for e, err := range order.All(t.Context(), l, fraud, older) {
			if err != nil {
				rt.Fatal(err)
			}
			got = append(got, e.Position)
		}
		if slices.Compare(positions(want), positions(got)) != 0 {
			rt.Fatalf("up to %v: %v, want %v", older, got, want)
		}
	})
}

func positions(list []events.Position) (flat []uint64) {
	for _, at := range list {
		flat = append(flat, uint64(at.Partition), at.Sequence)
	}
	return flat
}

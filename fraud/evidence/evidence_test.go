package evidence_test

import (
	"errors"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/fraud/evidence"
)

func TestEventsAreReadBackBySequenceFromNearAndFar(t *testing.T) {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, 1)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store, log.Options{})
	t.Cleanup(func() {
		l.Close()
		_ = db.Close()
	})
	r := rand.New(rand.NewPCG(1, 2))
	var ids []uuid.UUID
	for len(ids) < 30_000 { // commits of all sizes, more than are read on through
		evs := make([]events.Event, 1+r.IntN(3000))
		for i := range evs {
			evs[i] = events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: time.Unix(0, 0)}
			ids = append(ids, evs[i].ID)
		}
		if _, err := l.Append(t.Context(), evs...); err != nil {
			t.Fatal(err)
		}
	}
	last := uint64(len(ids))
	wanted := [][]uint64{{}, {1}, {last}, {1, last}, {1, 2, 3}, {5, 10_000, 10_001, 29_000}}
	for range 20 {
		var some []uint64
		for range 1 + r.IntN(50) {
			some = append(some, 1+r.Uint64N(last))
		}
		slices.Sort(some)
		wanted = append(wanted, slices.Compact(some))
	}
	for _, sequences := range wanted {
		got, err := evidence.Read(t.Context(), l, 0, sequences)
		if err != nil || len(got) != len(sequences) {
			t.Fatalf("%v: %d events, %v", sequences, len(got), err)
		}
		for i, e := range got {
			if e.Sequence != sequences[i] || e.ID != ids[sequences[i]-1] {
				t.Fatalf("%v: event %d is %d", sequences, i, e.Sequence)
			}
		}
	}
	if _, err := evidence.Read(t.Context(), l, 0, []uint64{1, last + 1}); !errors.Is(err, log.ErrNotFound) {
		t.Errorf("beyond the head: %v", err)
	}
}

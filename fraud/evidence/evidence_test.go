package evidence_test

import (
	"errors"
	"maps"
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

func TestEventsAreReadBackFromNearAndFar(t *testing.T) {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	const partitions = 3
	store, err := db.Log(events.ActivityLog, partitions)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store, log.Options{})
	t.Cleanup(func() {
		l.Close()
		_ = db.Close()
	})
	r := rand.New(rand.NewPCG(1, 2))
	ids := make(map[events.Position]uuid.UUID)
	var all []events.Position
	for len(all) < 90_000 { // commits of all sizes, more than are read on through
		partition := r.IntN(partitions)
		evs := make([]events.Event, 1+r.IntN(3000))
		for i := range evs {
			evs[i] = events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: time.Unix(0, 0)}
			for events.PartitionOf(evs[i].Stream, partitions) != partition {
				evs[i].Stream = uuid.New()
			}
		}
		at, err := l.Append(t.Context(), evs...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range at {
			ids[at[i].Position] = evs[i].ID
			all = append(all, at[i].Position)
		}
	}
	wanted := [][]events.Position{{}, {all[0]}, {all[len(all)-1], all[0]}, all[5:8], {all[5], all[60_000], all[10_000], all[10_001]}}
	for range 20 {
		some := make(map[events.Position]bool)
		for range 1 + r.IntN(50) {
			some[all[r.IntN(len(all))]] = true
		}
		wanted = append(wanted, slices.Collect(maps.Keys(some)))
	}
	for _, positions := range wanted {
		got, err := evidence.Read(t.Context(), l, positions)
		if err != nil || len(got) != len(positions) {
			t.Fatalf("%v: %d events, %v", positions, len(got), err)
		}
		for i, e := range got {
			if e.Position != positions[i] || e.ID != ids[positions[i]] {
				t.Fatalf("%v: event %d is %v", positions, i, e.Position)
			}
		}
	}
	beyond := events.Position{Partition: 1, Sequence: 1 << 40}
	if _, err := evidence.Read(t.Context(), l, []events.Position{all[0], beyond}); !errors.Is(err, log.ErrNotFound) {
		t.Errorf("beyond the head: %v", err)
	}
}

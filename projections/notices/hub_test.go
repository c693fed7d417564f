package notices_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/projections/notices"
	"github.com/meet5/backend/projections/views"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a log and hubs that follow it. Nobody is hidden and nobody matches.
type world struct {
	*testing.T
	ctx context.Context
	log *log.Log
}

func newWorld(t *testing.T) *world {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := db.Log(events.ActivityLog, events.ActivityPartitions)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t, ctx, log.New(file, log.Options{})}
	t.Cleanup(func() {
		w.log.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) hub() *notices.Hub {
	w.Helper()
	h, err := notices.New(notices.Config{Log: w.log,
		Settled: func(context.Context, int, uint64) error { return nil },
		Bonds: func(_ context.Context, pairs []views.Pair) ([]views.Bond, error) {
			return make([]views.Bond, len(pairs)), nil
		},
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = h.Run(ctx) })
	w.Cleanup(func() { cancel(); running.Wait() })
	return h
}

// visits has one actor visit a member so many times.
func (w *world) visits(member uuid.UUID, n int) {
	w.Helper()
	actor := uuid.New()
	for n > 0 {
		list := make([]events.Event, min(n, 1000))
		for i := range list {
			list[i] = events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: actor, OccurredAt: time.Now(),
				Data: events.Activity{Target: member, JoinedAt: time.Now()}.AppendJSON(nil)}
		}
		if _, err := w.log.Append(w.ctx, list...); err != nil {
			w.Fatal(err)
		}
		n -= len(list)
	}
}

func (w *world) open(h *notices.Hub, member uuid.UUID, after notices.Place) *notices.Stream {
	w.Helper()
	s, err := h.Open(w.ctx, member, after)
	if err != nil {
		w.Fatal(err)
	}
	return s
}

// take waits for n notices and returns them with the place after.
func (w *world) take(s *notices.Stream, n int) (all []notices.Notice, place notices.Place) {
	w.Helper()
	for {
		list, at, err := s.Take()
		if err != nil {
			w.Fatal(err)
		}
		if all, place = append(all, list...), at; len(all) >= n {
			return all, place
		}
		select {
		case <-s.Ready():
		case <-w.ctx.Done():
			w.Fatalf("%d of %d came", len(all), n)
		}
	}
}

func TestASlowReaderIsCutAndResumesWithoutLoss(t *testing.T) {
	w := newWorld(t)
	h := w.hub()
	member := uuid.New()
	s := w.open(h, member, nil)
	_, place := w.take(s, 0)
	w.visits(member, 1000)
	err := error(nil)
	for err == nil { // it takes none of them
		<-s.Ready()
		if h.Stats().Cut > 0 {
			_, _, err = s.Take()
		} else {
			w.visits(member, 1)
		}
	}
	if !errors.Is(err, notices.ErrCut) {
		t.Fatalf("it ended with %v", err)
	}
	s.Close()
	s = w.open(h, member, place)
	all, place := w.take(s, 1000)
	seen := make(map[uuid.UUID]bool)
	for _, n := range all {
		seen[n.Event] = true
	}
	if len(seen) != len(all) || h.Stats().Reread != 0 || h.Stats().Cut != 1 {
		t.Errorf("%d notices of %d events, %+v", len(all), len(seen), h.Stats())
	}
	s.Close()
	if s = w.open(h, member, place); len(s.Ready()) > 0 {
		if list, _, err := s.Take(); err != nil || len(list) > 0 {
			t.Errorf("and then once more %d, %v", len(list), err)
		}
	}
}

func TestWhoIsFarBehindIsResumedFromTheLogUpToABound(t *testing.T) {
	w := newWorld(t)
	member := uuid.New()
	w.visits(member, 9_000)
	h := w.hub()
	beginning := make(notices.Place, events.ActivityPartitions)
	s := w.open(h, member, beginning)
	if all, _ := w.take(s, 9_000); len(all) != 9_000 || h.Stats().Reread != 1 {
		t.Errorf("%d came, %+v", len(all), h.Stats())
	}
	s.Close()
	w.visits(member, 2_000)
	if err := h.Subscription().CatchUp(w.ctx); err != nil {
		t.Fatal(err)
	}
	if all, _ := w.take(w.open(h, member, beginning), 1); len(all) != 1 || all[0].Kind != notices.Reset || h.Stats().Reset != 1 {
		t.Errorf("%d came, the first %+v; %+v", len(all), all[0], h.Stats())
	}
	if all, _ := w.take(w.open(h, member, notices.Place{1, 2}), 1); all[0].Kind != notices.Reset {
		t.Errorf("of another number of partitions: %+v", all[0])
	}
}

func TestThereAreNoMoreStreamsThanMaxStreams(t *testing.T) {
	w := newWorld(t)
	h := w.hub()
	var last *notices.Stream
	for range notices.MaxStreams / notices.MaxStreamsOfOne {
		member := uuid.New()
		for range notices.MaxStreamsOfOne {
			last = w.open(h, member, nil)
		}
		if _, err := h.Open(w.ctx, member, nil); !errors.Is(err, notices.ErrTooMany) && h.Stats().Open < notices.MaxStreams {
			t.Fatalf("one more of a member's: %v", err)
		}
	}
	if _, err := h.Open(w.ctx, uuid.New(), nil); !errors.Is(err, notices.ErrFull) {
		t.Fatalf("one more: %v", err)
	}
	last.Close()
	last.Close()
	if h.Stats().Open != notices.MaxStreams-1 {
		t.Errorf("%d are open", h.Stats().Open)
	}
	w.open(h, uuid.New(), nil)
}

package projections

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/token"
)

// heldStore applies nothing while it is held.
type heldStore struct {
	views.Store
	mu sync.RWMutex
}

func (h *heldStore) Apply(ctx context.Context, b views.Batch) error {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.Store.Apply(ctx, b)
}

// toldLog tells when somebody asks for a head.
type toldLog struct {
	*log.Log
	mu     sync.Mutex
	onHead func()
}

func (l *toldLog) tell(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onHead = f
}

func (l *toldLog) Head(ctx context.Context, partition int) (uint64, error) {
	l.mu.Lock()
	if l.onHead != nil {
		l.onHead()
	}
	l.mu.Unlock()
	return l.Log.Head(ctx, partition)
}

// stage is a service that answers from one edition and is about to change over to
// another, whose store can be held.
type stage struct {
	*testing.T
	ctx       context.Context
	service   *Service
	log       *toldLog
	old, next *edition
	nextStore *heldStore
}

func newStage(t *testing.T) *stage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	file, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := file.Log(events.ActivityLog, 1)
	if err != nil {
		t.Fatal(err)
	}
	st := &stage{T: t, ctx: ctx, log: &toldLog{Log: log.New(store, log.Options{})}, nextStore: &heldStore{Store: memstore.New()}}
	t.Cleanup(func() {
		st.log.Close()
		if err := file.Close(); err != nil {
			t.Error(err)
		}
	})
	st.service, err = New(Config{}, Deps{
		Activity: st.log, Versions: new(versions.Registry), // which is not asked
		Verifier: token.NewVerifier(token.StaticKeySet{}, time.Now), Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	st.old, st.next = st.edition(1, memstore.New()), st.edition(2, st.nextStore)
	st.service.current.Store(st.old)
	return st
}

func (st *stage) edition(version int, store views.Store) *edition {
	st.Helper()
	e, err := st.service.edit(version, store, subscription.NewMemory())
	if err != nil {
		st.Fatal(err)
	}
	e.begin(st.ctx)
	st.Cleanup(func() {
		if err := e.end(); err != nil {
			st.Error(err)
		}
	})
	return e
}

// visit appends a visit of the target and waits until the old edition has it.
func (st *stage) visit(target uuid.UUID) {
	st.Helper()
	_, err := st.log.Append(st.ctx, events.Event{
		ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: time.Unix(1, 0),
		Data: events.Activity{Target: target, JoinedAt: time.Unix(0, 0)}.AppendJSON(nil),
	})
	if err == nil {
		err = st.old.sub.CatchUp(st.ctx)
	}
	if err != nil {
		st.Fatal(err)
	}
}

func (st *stage) visits(target uuid.UUID) (int64, error) {
	n, err := read(st.ctx, st.service, func(s views.Store) (views.Stats, error) { return s.Stats(st.ctx, target) })
	return n.VisitsReceived, err
}

// shut waits until nobody is let in.
func (st *stage) shut() {
	st.Helper()
	d := &st.service.door
	is := func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.opened != nil
	}
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for !is() {
		select {
		case <-again.C:
		case <-st.ctx.Done():
			st.Fatal("the door stays open")
		}
	}
}

// TestWhatWasSeenBeforeTheExchangeIsSeenAfterIt has an event come at the last
// moment: after the new version has caught up, while one reader is still inside, who
// sees it.
func TestWhatWasSeenBeforeTheExchangeIsSeenAfterIt(t *testing.T) {
	st := newStage(t)
	anna := uuid.New()
	st.visit(anna)
	d := &st.service.door
	if err := d.enter(st.ctx); err != nil {
		t.Fatal(err)
	}
	exchanged := make(chan error, 1)
	go func() { exchanged <- st.service.exchange(st.ctx, st.next) }()
	st.shut()
	st.nextStore.mu.Lock()
	st.visit(anna)
	n, err := st.old.store.Stats(st.ctx, anna)
	if err != nil || n.VisitsReceived != 2 {
		t.Fatalf("the reader inside sees %d visits, %v", n.VisitsReceived, err)
	}
	// The new version gets it once somebody asks how far it has to come.
	st.log.tell(sync.OnceFunc(st.nextStore.mu.Unlock))
	d.leave()
	if after, err := st.visits(anna); err != nil || after != 2 {
		t.Errorf("a reader after the exchange sees %d visits, %v", after, err)
	}
	if err := <-exchanged; err != nil {
		t.Fatal(err)
	}
	if st.service.current.Load() != st.next {
		t.Error("it was not exchanged")
	}
}

func TestAnExchangeThatFailsLetsReadersGoOn(t *testing.T) {
	st := newStage(t)
	anna := uuid.New()
	st.visit(anna)
	if err := st.service.door.enter(st.ctx); err != nil { // and stays
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(st.ctx)
	exchanged := make(chan error, 1)
	go func() { exchanged <- st.service.exchange(ctx, st.next) }()
	st.shut()
	cancel()
	if err := <-exchanged; !errors.Is(err, context.Canceled) {
		t.Fatalf("%v, want that it was cancelled", err)
	}
	if n, err := st.visits(anna); err != nil || n != 1 || st.service.current.Load() != st.old {
		t.Errorf("%d visits, %v", n, err)
	}
	st.service.door.leave()
	if err := st.service.exchange(st.ctx, st.next); err != nil {
		t.Fatal(err)
	}
}

func TestWhoWaitsAtTheDoorGivesUpWithTheRequest(t *testing.T) {
	var d door
	if err := d.shut(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.enter(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
	d.open()
	if err := d.enter(t.Context()); err != nil {
		t.Error(err)
	}
	d.leave()
}

package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const partitions = 3

// wire is a bus by hand: the test decides what comes over it.
type wire struct {
	mu       sync.Mutex
	channels map[string][]chan *message.Message
}

func (w *wire) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	in, out := make(chan *message.Message, 1000), make(chan *message.Message)
	if w.channels == nil {
		w.channels = map[string][]chan *message.Message{}
	}
	w.channels[topic] = append(w.channels[topic], in)
	go func() {
		defer close(out)
		for {
			select {
			case m := <-in:
				select {
				case out <- m:
					<-m.Acked()
				case <-ctx.Done():
					return
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return out, nil
}

func (w *wire) Close() error { return nil }

func (w *wire) send(c events.Commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, in := range w.channels[bus.Topic(c.Log, c.Partition)] {
		in <- bus.Message(c)
	}
}

// recorder is a handler that fails the test when a batch does not follow on.
type recorder struct {
	t    *testing.T
	mu   sync.Mutex
	next map[int]uint64
	seen int
	fail func(subscription.Batch) error
	bell chan struct{}
}

func newRecorder(t *testing.T) *recorder {
	return &recorder{t: t, next: map[int]uint64{}, bell: make(chan struct{}, 1)}
}

func (r *recorder) handle(_ context.Context, b subscription.Batch) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		if err := r.fail(b); err != nil {
			return err
		}
	}
	for _, e := range b.Events {
		if want := r.next[b.Partition] + 1; e.Sequence != want {
			r.t.Errorf("partition %d: sequence %d where %d belongs", b.Partition, e.Sequence, want)
		}
		r.next[b.Partition] = e.Sequence
		r.seen++
	}
	select {
	case r.bell <- struct{}{}:
	default:
	}
	return nil
}

// until waits for so many events.
func (r *recorder) until(n int) {
	r.t.Helper()
	for {
		r.mu.Lock()
		seen := r.seen
		r.mu.Unlock()
		if seen >= n {
			return
		}
		select {
		case <-r.bell:
		case <-r.t.Context().Done():
			r.t.Fatalf("%d events, want %d", seen, n)
		}
	}
}

type fixture struct {
	t     *testing.T
	log   *log.Log
	mu    sync.Mutex
	made  []events.Commit
	wires *wire
}

func setUp(t *testing.T) *fixture {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log("activity", partitions)
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, wires: &wire{}}
	f.log = log.New(store, log.Options{Committed: func(c events.Commit) {
		f.mu.Lock()
		f.made = append(f.made, c)
		f.mu.Unlock()
	}})
	t.Cleanup(func() {
		f.log.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func (f *fixture) append(n int) {
	f.t.Helper()
	for i := range n {
		if _, err := f.log.Append(f.t.Context(), events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.UUID{byte(i + 1)}, OccurredAt: time.Unix(int64(i), 0), Data: []byte("{}"),
		}); err != nil {
			f.t.Fatal(err)
		}
	}
}

// run starts a subscription and returns what stops it and waits for its end.
func (f *fixture) run(cfg subscription.Config) (*subscription.Subscription, func()) {
	cfg.Log = f.log
	if cfg.Group == "" {
		cfg.Group = "test"
	}
	s := subscription.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			f.t.Error(err)
		}
	}()
	stop := sync.OnceFunc(func() { cancel(); <-done })
	f.t.Cleanup(stop)
	return s, stop
}

func TestItCatchesUpFromTheLogInBatches(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	f.append(100)
	r.fail = func(b subscription.Batch) error {
		if len(b.Events) > 7 {
			return fmt.Errorf("a batch of %d, at most 7 are wanted", len(b.Events))
		}
		return nil
	}
	s, _ := f.run(subscription.Config{Handler: r.handle, MaxBatch: 7, Idle: time.Hour})
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.seen != 100 {
		t.Fatalf("%d events, want 100", r.seen)
	}
}

func TestItFollowsTheBusThroughLossRepetitionAndDisorder(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	s, _ := f.run(subscription.Config{Handler: r.handle, Bus: f.wires, Idle: time.Hour})
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	for round := range 20 {
		f.append(10)
		f.mu.Lock()
		made := f.made
		f.made = nil
		f.mu.Unlock()
		for i := range made {
			c := made[len(made)-1-i] // backwards
			if i%3 == round%3 && i > 0 {
				continue // lost
			}
			f.wires.send(c)
			f.wires.send(c)
		}
		if err := s.CatchUp(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if r.seen != 200 {
		t.Fatalf("%d events, want 200", r.seen)
	}
}

func TestAHintAloneBringsTheEvents(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	s, _ := f.run(subscription.Config{Handler: r.handle, Bus: f.wires, Idle: time.Hour})
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wires.await(t)
	f.append(30)
	for _, c := range f.made {
		f.wires.send(c)
	}
	r.until(30)
}

// await waits until all partitions are subscribed to.
func (w *wire) await(t *testing.T) {
	t.Helper()
	for !w.complete() {
		if t.Context().Err() != nil {
			t.Fatal("it does not subscribe")
		}
	}
}

func (w *wire) complete() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.channels) == partitions
}

func TestAnIdleSubscriptionComparesHeads(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	f.run(subscription.Config{Handler: r.handle, Bus: f.wires, Idle: time.Millisecond})
	f.append(30) // and nothing comes over the bus
	r.until(30)
}

// Heads are not compared while the bus brings what is new. When it stops in the middle,
// what is missing is found all the same.
func TestWhatTheBusLosesAtTheEndIsFound(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	s, _ := f.run(subscription.Config{Handler: r.handle, Bus: f.wires, Idle: time.Millisecond})
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.wires.await(t)
	for n := 30; n <= 300; n += 30 {
		f.append(30)
		for _, c := range f.made[n-30 : n-15] {
			f.wires.send(c)
		}
		r.until(n)
	}
}

func TestAFailingBatchIsHandedOverAgainAndNamedInTheStatus(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	failures := 0
	var s *subscription.Subscription
	r.fail = func(b subscription.Batch) error {
		if failures++; failures <= 3 {
			return errors.New("the store is away")
		}
		if st := s.Status()[b.Partition]; failures == 4 && (st.Failures != 3 || st.Failure != "handle a batch" || st.Detail != "the store is away") {
			t.Errorf("status after three failures: %+v", st)
		}
		return nil
	}
	s = subscription.New(subscription.Config{Log: f.log, Group: "test", Handler: r.handle, Idle: time.Hour})
	f.append(1)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r.until(1)
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestItGoesOnFromItsCheckpoint(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	cfg := subscription.Config{Handler: r.handle, Ledger: subscription.NewMemory(), Idle: time.Hour}
	f.append(50)
	s, stop := f.run(cfg)
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	stop()
	f.append(50)
	s, _ = f.run(cfg)
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.seen != 100 {
		t.Fatalf("%d events were handled, want each of 100 once", r.seen)
	}
}

func TestAStandbyFollowsTheCheckpointAndTakesOverWhenItStands(t *testing.T) {
	f, r := setUp(t), newRecorder(t)
	ledger := subscription.NewMemory()
	f.append(40)
	heads := map[int]uint64{}
	for p := range partitions {
		heads[p], _ = f.log.Head(t.Context(), p)
		// Another instance has been here.
		at := subscription.Place{Group: "test", Log: f.log.Name(), Partition: p}
		if err := ledger.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: heads[p]}); err != nil {
			t.Fatal(err)
		}
		r.next[p] = heads[p]
	}
	f.run(subscription.Config{Handler: r.handle, Ledger: ledger, Idle: time.Millisecond})
	f.append(10) // the other instance is gone
	r.until(10)
}

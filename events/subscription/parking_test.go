package subscription_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
)

var errPayload = errors.New("the payload cannot be read")

// lane is a log of one partition, in which many keys share a place.
type lane struct {
	t      *testing.T
	log    *log.Log
	reader log.Reader // what is followed
	ledger subscription.Ledger
	at     subscription.Place

	mu      sync.Mutex
	ill     func(e events.Recorded) error // what is wrong with handling an event
	nothing func(e events.Recorded) bool  // what there is nothing to do for; nil: none
	handled []uint64
	bell    chan struct{}
}

func newLane(t *testing.T) *lane {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log("activity", 1)
	if err != nil {
		t.Fatal(err)
	}
	l := &lane{
		t: t, log: log.New(store, log.Options{}), ledger: subscription.NewMemory(),
		at: subscription.Place{Group: "test", Log: "activity"}, bell: make(chan struct{}, 1),
	}
	l.reader = l.log
	t.Cleanup(func() {
		l.log.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// headless is a log whose heads may be hidden, so that nobody sees that it goes on.
type headless struct {
	log.Reader
	hidden atomic.Bool
	last   atomic.Uint64
}

func (h *headless) Head(ctx context.Context, partition int) (uint64, error) {
	if h.hidden.Load() {
		return h.last.Load(), nil
	}
	head, err := h.Reader.Head(ctx, partition)
	h.last.Store(head)
	return head, err
}

var (
	anna = uuid.UUID{1}
	bert = uuid.UUID{2}
	cora = uuid.UUID{3}
)

// append appends an event of each stream, in that order.
func (l *lane) append(streams ...uuid.UUID) {
	l.t.Helper()
	for _, s := range streams {
		if _, err := l.log.Append(l.t.Context(), events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: s, OccurredAt: time.Unix(1, 0), Data: []byte("{}"),
		}); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lane) setIll(ill func(e events.Recorded) error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ill = ill
}

// handle takes a batch whole or, like a store that writes in bulk, not at all.
func (l *lane) handle(_ context.Context, b subscription.Batch) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.nothing != nil && !slices.ContainsFunc(b.Events, func(e events.Recorded) bool { return !l.nothing(e) }) {
		return subscription.ErrNothing
	}
	if l.ill != nil {
		for _, e := range b.Events {
			if err := l.ill(e); err != nil {
				return err
			}
		}
	}
	for _, e := range b.Events {
		l.handled = append(l.handled, e.Sequence)
	}
	select {
	case l.bell <- struct{}{}:
	default:
	}
	return nil
}

// order is what was handled, each event when it was first.
func (l *lane) order() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []uint64
	for _, n := range l.handled {
		if !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	return out
}

func (l *lane) run() (s *subscription.Subscription, stop func()) {
	s = subscription.New(subscription.Config{
		Log: l.reader, Group: l.at.Group, Handler: l.handle, Ledger: l.ledger, Idle: time.Millisecond,
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			l.t.Error(err)
		}
	}()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	l.t.Cleanup(stop)
	return s, stop
}

func (l *lane) catchUp(s *subscription.Subscription) {
	l.t.Helper()
	if err := s.CatchUp(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lane) wants(sequences ...uint64) {
	l.t.Helper()
	for !slices.Equal(l.order(), sequences) {
		select {
		case <-l.bell:
		case <-time.After(10 * time.Second):
			l.t.Fatalf("handled %v, want %v", l.order(), sequences)
		}
	}
}

func (l *lane) parked() []subscription.Parked {
	l.t.Helper()
	list, err := l.ledger.Parked(l.t.Context(), l.at)
	if err != nil {
		l.t.Fatal(err)
	}
	return list
}

func sequencesOf(list []subscription.Parked) (out []uint64) {
	for _, p := range list {
		out = append(out, p.Sequence)
	}
	return out
}

func (l *lane) wantsParked(sequences ...uint64) {
	l.t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !slices.Equal(sequencesOf(l.parked()), sequences) {
		if time.Now().After(deadline) {
			l.t.Fatalf("parked are %v, want %v", sequencesOf(l.parked()), sequences)
		}
		time.Sleep(time.Millisecond)
	}
}

func (l *lane) operator(sequence uint64, o subscription.Order) {
	l.t.Helper()
	if err := l.ledger.Order(l.t.Context(), l.at, sequence, o); err != nil {
		l.t.Fatal(err)
	}
}

// poisonous is what a handler says of some sequences.
func poisonous(sequences ...uint64) func(events.Recorded) error {
	return func(e events.Recorded) error {
		if slices.Contains(sequences, e.Sequence) {
			return fmt.Errorf("handle: %w", subscription.Poison(e, errPayload))
		}
		return nil
	}
}

func TestAPoisonousEventParksItsKeyAndOnlyItsKey(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert, anna, cora, bert, anna) // 1 to 6
	l.setIll(poisonous(2))
	s, _ := l.run()
	l.catchUp(s)
	l.wants(1, 3, 4, 6)
	l.append(bert, cora) // 7, 8
	l.wants(1, 3, 4, 6, 8)
	l.wantsParked(2, 5, 7)
	list := l.parked()
	if first := list[0]; first.Reason == "" || first.Key != bert || first.Event == uuid.Nil || first.Type != events.ProfileVisited {
		t.Errorf("the poisonous event is kept as %+v", first)
	}
	for _, behind := range list[1:] {
		if behind.Reason != "" {
			t.Errorf("what waits behind has a reason of its own: %+v", behind)
		}
	}
	if st := s.Status()[0]; st.Parked != 3 || st.Stalled {
		t.Errorf("status %+v, want 3 parked", st)
	}
}

func TestEventsOfAPoisonedKeyBeforeThePoisonAreHandledInTheirPlace(t *testing.T) {
	l := newLane(t)
	l.append(bert, bert, anna, bert)
	l.setIll(poisonous(2))
	s, _ := l.run()
	l.catchUp(s)
	l.wants(1, 3)
	l.wantsParked(2, 4)
}

func TestWhatIsParkedIsRetriedInOrder(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert, bert, anna)
	l.setIll(poisonous(2))
	s, _ := l.run()
	l.catchUp(s)
	l.wants(1, 4)

	l.operator(2, subscription.Retry) // it is still ill
	until(t, "it is tried again", func() bool { return l.parked()[0].Attempts == 2 })
	if list := l.parked(); list[0].Order != "" {
		t.Errorf("an order that was tried stands still: %+v", list[0])
	}
	l.wantsParked(2, 3)

	l.setIll(nil)
	l.operator(2, subscription.Retry)
	l.wants(1, 4, 2, 3)
	l.wantsParked()
	l.append(bert)
	l.wants(1, 4, 2, 3, 5)
}

func TestADroppedEventIsGivenUpAndThoseBehindItGoOn(t *testing.T) {
	l := newLane(t)
	l.append(bert, bert, bert, anna)
	l.setIll(poisonous(1, 3))
	s, _ := l.run()
	l.catchUp(s)
	l.wants(4)
	l.operator(1, subscription.Drop)
	l.wants(4, 2) // 3 is ill itself
	l.wantsParked(3)
	l.operator(3, subscription.Drop)
	l.wantsParked()
}

func TestAnOldVersionThatCannotBeReadIsParked(t *testing.T) {
	l := newLane(t)
	l.append(anna)
	for _, data := range []string{"not JSON", "{}"} {
		if _, err := l.log.Append(t.Context(), events.Event{
			ID: uuid.New(), Type: "fraud.rule_defined.v1", Stream: bert, OccurredAt: time.Unix(1, 0), Data: []byte(data),
		}); err != nil {
			t.Fatal(err)
		}
	}
	l.append(anna)
	s, _ := l.run()
	l.catchUp(s)
	l.wants(1, 4)
	l.wantsParked(2, 3)
}

func TestAPanicParksTheEvent(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert, anna)
	l.setIll(func(e events.Recorded) error {
		if e.Stream == bert {
			panic("no such profile")
		}
		return nil
	})
	l.run()
	l.wants(1, 3)
	l.wantsParked(2)
	if list := l.parked(); len(list[0].Reason) == 0 || len(list[0].Reason) > subscription.MaxReason {
		t.Errorf("the reason has %d bytes", len(list[0].Reason))
	}
}

// An error that says nothing of poison is taken for an outage, until others
// succeed beside it.
func TestWhatFailsByItselfWhileOthersSucceedIsParked(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert, cora, bert)
	l.setIll(func(e events.Recorded) error {
		if e.Sequence == 2 {
			return errors.New("the document is too large")
		}
		return nil
	})
	s, _ := l.run()
	l.catchUp(s)
	l.wants(1, 3)
	l.wantsParked(2, 4)
}

func TestWhatFailsAloneInALogOfOneKeyIsFoundOutWhenOthersCome(t *testing.T) {
	l := newLane(t)
	l.append(bert, bert)
	l.setIll(func(e events.Recorded) error {
		if e.Stream == bert {
			return errors.New("the document is too large")
		}
		return nil
	})
	l.run()
	l.append(anna)
	l.wants(3)
	l.wantsParked(1, 2)
}

func TestAnOutageParksNothing(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert, cora)
	calls := 0
	l.setIll(func(events.Recorded) error {
		calls++
		return errors.New("the store is away")
	})
	s, _ := l.run()
	for deadline := time.Now().Add(10 * time.Second); ; { // long enough to look for what is ill
		l.mu.Lock()
		n := calls
		l.mu.Unlock()
		if n > 8 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d calls", n)
		}
		time.Sleep(time.Millisecond)
	}
	if st := s.Status()[0]; st.Failure != "handle a batch" || st.Lag != 3 {
		t.Errorf("status %+v, want a lag of 3 and the failure", st)
	}
	l.setIll(nil)
	l.wants(1, 2, 3)
	l.wantsParked()
}

// What a handler has nothing to do for always goes well, and says nothing about
// what it needs for others.
func TestAnEventOfAnotherTypeIsNoWitness(t *testing.T) {
	l := newLane(t)
	l.append(anna)
	if _, err := l.log.Append(t.Context(), events.Event{
		ID: uuid.New(), Type: "activity.of_no_interest.v1", Stream: bert, OccurredAt: time.Unix(1, 0), Data: []byte("{}"),
	}); err != nil {
		t.Fatal(err)
	}
	l.setIll(func(e events.Recorded) error {
		if e.Type == events.ProfileVisited {
			return errors.New("the store is away")
		}
		return nil
	})
	s, _ := l.run()
	until(t, "it has looked for what is ill", func() bool { return s.Status()[0].Failures > 5 })
	l.wantsParked()
	l.append(cora) // fails, too, though more was read in the search
	l.setIll(nil)
	l.catchUp(s)
	l.wants(2, 1, 3)
	l.wantsParked()
}

// A handler that does an event's work once, and says that there is nothing to do
// when it comes again, has its poison found out all the same, and nothing is parked
// for an outage in which what asks for nothing goes well.
func TestWhatAsksForNothingIsNoWitness(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert, cora)
	done := map[uint64]bool{}
	away := true
	l.nothing = func(e events.Recorded) bool { return done[e.Sequence] || e.Stream == cora }
	l.setIll(func(e events.Recorded) error {
		switch {
		case l.nothing(e):
			return nil
		case away:
			return errors.New("the store is away")
		case e.Stream == bert:
			return errors.New("the document is too large")
		}
		done[e.Sequence] = true
		return nil
	})
	s, _ := l.run()
	until(t, "it has looked for what is ill", func() bool { return s.Status()[0].Failures > 5 })
	l.wantsParked()
	l.mu.Lock()
	away = false
	l.mu.Unlock()
	l.append(anna) // a witness that comes after
	l.wantsParked(2)
	l.catchUp(s)
}

// An outage that begins while events are tried one by one must not pass for
// poison: what succeeded just before fails now, too.
func TestAnOutageInTheMiddleParksNothing(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert, cora)
	good := 1 // how many calls with one event go well
	l.setIll(func(e events.Recorded) error {
		if e.Sequence == 1 && good > 0 && len(l.handled) == 0 {
			good--
			return nil
		}
		return errors.New("the store is away")
	})
	s, _ := l.run()
	until(t, "it has looked for what is ill", func() bool { return s.Status()[0].Failures > 5 })
	l.wantsParked()
	l.setIll(nil)
	l.catchUp(s)
	l.wants(1, 2, 3)
}

func TestWhatIsParkedOutlivesTheProcess(t *testing.T) {
	l := newLane(t)
	l.append(anna, bert)
	l.setIll(poisonous(2))
	s, stop := l.run()
	l.catchUp(s)
	stop()
	l.setIll(nil)
	l.append(bert, anna)
	s, _ = l.run()
	l.catchUp(s)
	l.wants(1, 4)
	l.wantsParked(2, 3)
}

// Another instance parked a key and went on: who takes over must not handle what
// belongs behind.
func TestAStandbyKnowsWhatTheOtherParked(t *testing.T) {
	l := newLane(t)
	view := &headless{Reader: l.log}
	l.reader = view
	l.append(anna)
	l.run()
	l.wants(1)
	view.hidden.Store(true)
	ctx := t.Context()
	l.append(bert, cora)
	if err := l.ledger.Park(ctx, subscription.Parked{Place: l.at, Sequence: 2, Key: bert, Reason: "ill"}); err != nil {
		t.Fatal(err)
	}
	if err := l.ledger.Save(ctx, subscription.Checkpoint{Place: l.at, Sequence: 3}); err != nil {
		t.Fatal(err)
	}
	view.hidden.Store(false)
	l.append(bert, cora)
	l.wants(1, 5)
	l.wantsParked(2, 4)
}

func TestTooMuchParkedStopsThePartitionAndSaysSo(t *testing.T) {
	l := newLane(t)
	l.append(cora)
	full := make([]subscription.Parked, subscription.MaxParked)
	for i := range full {
		full[i] = subscription.Parked{Place: l.at, Sequence: uint64(i + 1), Key: uuid.New(), Reason: "ill"} //nolint:gosec // an index
	}
	full[0].Key = cora
	if err := l.ledger.Park(t.Context(), full...); err != nil {
		t.Fatal(err)
	}
	if err := l.ledger.Save(t.Context(), subscription.Checkpoint{Place: l.at, Sequence: 1}); err != nil {
		t.Fatal(err)
	}
	l.append(anna, cora, anna)
	s, _ := l.run()
	until(t, "it stands still", func() bool { return s.Status()[0].Failures > 0 })
	if st := s.Status()[0]; st.Position != 1 || st.Failure != "handle a batch" || !strings.Contains(st.Detail, "at most 10000") {
		t.Errorf("status %+v, want it to stand still and say why", st)
	}
}

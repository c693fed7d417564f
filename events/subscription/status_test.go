package subscription_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
)

// clock is a clock by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// until waits for the condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func TestAHandlerThatHangsShowsAlthoughItsPartitionIsHeldUp(t *testing.T) {
	l := newLane(t)
	c := &clock{now: time.Now()}
	l.append(anna)
	var once sync.Once
	hang, hung := make(chan struct{}), make(chan struct{})
	s := subscription.New(subscription.Config{
		Log: l.log, Group: "test", Idle: time.Millisecond, Clock: c.Now, Ledger: l.ledger,
		Handler: func(context.Context, subscription.Batch) error {
			once.Do(func() { close(hung) })
			<-hang
			return nil
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-hung
	if st := s.Status()[0]; st.Stalled || st.Lag != 1 {
		t.Errorf("at first %+v, want a lag of 1 and no stall", st)
	}
	l.append(anna, anna)
	c.pass(7 * time.Second)
	until(t, "the head moves while the handler hangs", func() bool { return s.Status()[0].Head == 3 })
	if st := s.Status()[0]; !st.Stalled || st.Lag != 3 || st.LagSeconds < 6 || st.CaughtUp {
		t.Errorf("after 7 s %+v, want it stalled with a lag of 3", st)
	}
	close(hang)
	if err := s.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "it has caught up", func() bool { return s.Status()[0].CaughtUp })
	if st := s.Status()[0]; st.Stalled || st.Lag != 0 || st.LagSeconds != 0 || st.Position != 3 {
		t.Errorf("in the end %+v, want no lag", st)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestTheLagIsTheAgeOfTheFirstEventThatIsNotWorkedThrough(t *testing.T) {
	l := newLane(t)
	c := &clock{now: time.Now().Add(time.Minute)} // a minute after it was recorded
	l.append(anna)
	l.setIll(away)
	s := subscription.New(subscription.Config{Log: l.log, Group: "test", Idle: time.Millisecond, Clock: c.Now, Handler: l.handle})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	until(t, "it fails", func() bool { return s.Status()[0].Failures > 0 })
	if st := s.Status()[0]; st.LagSeconds < 59 || st.LagSeconds > 120 {
		t.Errorf("the lag is %v s, want a minute", st.LagSeconds)
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// away is a store that does not answer.
func away(events.Recorded) error { return errors.New("the store is away") }

func TestTheLedgerShowsTheHeartbeat(t *testing.T) {
	l := newLane(t)
	c := &clock{now: time.Now()}
	s := subscription.New(subscription.Config{Log: l.log, Group: "test", Idle: time.Millisecond, Clock: c.Now, Handler: l.handle, Ledger: l.ledger})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	last := time.Time{}
	for range 3 { // without any event
		c.pass(6 * time.Second)
		until(t, "a heartbeat", func() bool {
			there, err := l.ledger.Load(t.Context(), l.at)
			if err != nil {
				t.Fatal(err)
			}
			moved := there.At.After(last)
			last = there.At
			return moved
		})
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

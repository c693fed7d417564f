package fraud_test

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/rule"
)

var errDown = errors.New("down")

// brittle is a store that can be made to fail.
type brittle struct {
	log.Store
	down    atomic.Bool
	refused atomic.Int64
}

func (b *brittle) Insert(ctx context.Context, c events.Commit, keys []string) error {
	if b.down.Load() {
		b.refused.Add(1)
		return errDown
	}
	return b.Store.Insert(ctx, c, keys)
}

// brittleCheckpoints can be made to fail too.
type brittleCheckpoints struct {
	subscription.Checkpoints
	down    atomic.Bool
	refused atomic.Int64
}

func (b *brittleCheckpoints) Save(ctx context.Context, group, log string, partition int, sequence uint64) error {
	if b.down.Load() {
		b.refused.Add(1)
		return errDown
	}
	return b.Checkpoints.Save(ctx, group, log, partition, sequence)
}

// until waits for a condition.
func until(t testing.TB, what string, met func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(waitLimit); !met(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

func TestAFlagThatCouldNotBeWrittenIsRaisedOnceItCan(t *testing.T) {
	w := newWorld(t)
	store, err := w.db.Log("fraud-brittle", events.FraudPartitions)
	if err != nil {
		t.Fatal(err)
	}
	b := &brittle{Store: store}
	impatient := func(context.Context, int) error { return errDown }
	l := log.New(b, log.Options{Clock: w.clock.Now, Backoff: impatient})
	t.Cleanup(l.Close)
	checkpoints := &brittleCheckpoints{Checkpoints: w.side}
	s := w.runOn(l, checkpoints, likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 1, start)...)
	s.catchUp() // the rule is defined

	b.down.Store(true)
	checkpoints.down.Store(true)
	w.post(likes(user(1), 3, start.Add(time.Minute))...)
	w.post(likes(user(2), 3, start.Add(time.Minute))...)
	until(t, "a flag was refused", func() bool { return b.refused.Load() > 2 })
	if a := s.decide(user(9), "confirm"); a.status != http.StatusNotFound {
		t.Errorf("reading goes on: %d %s", a.status, a.body)
	}
	b.down.Store(false)
	until(t, "a checkpoint was refused", func() bool { return checkpoints.refused.Load() > 0 })
	checkpoints.down.Store(false)
	s.catchUp()
	raised := w.fraudEvents(l, events.FlagRaised)
	if len(raised) != 2 {
		t.Fatalf("%d flags, want 2", len(raised))
	}

	b.down.Store(true)
	items, _ := s.flags("?user=" + user(1).String())
	a := s.decide(items[0].ID, "confirm").want(t, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	b.down.Store(false)
	s.decide(items[0].ID, "confirm").want(t, http.StatusOK)
}

func TestSeveralInstancesAtOnceRaiseEachFlagOnce(t *testing.T) {
	w := newWorld(t)
	rules := []rule.Rule{likesRule("three-likes", 3, 40), likesRule("four-likes", 4, 40)}
	instances := []*running{w.run(rules...), w.run(rules...), w.run(rules...)}
	const n = 20
	for i := range n {
		w.post(likes(user(i), 4, start)...)
	}
	for _, s := range instances {
		s.catchUp()
		if items, _ := s.flags("?limit=100"); len(items) != 2*n {
			t.Errorf("an instance lists %d flags, want %d", len(items), 2*n)
		}
	}
	if raised := w.fraudEvents(w.fraud, events.FlagRaised); len(raised) != 2*n {
		t.Errorf("%d flags raised, want %d", len(raised), 2*n)
	}
	if defined := w.fraudEvents(w.fraud, events.RuleDefined); len(defined) != 2 {
		t.Errorf("%d rules defined, want 2", len(defined))
	}
}

func TestBeforeItRunsItSaysThatItCannotKnow(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	s.stop()
	// The handler is still there, but somebody else has moved on.
	f := w.run(likesRule("three-likes", 3, 40))
	items, _ := f.flags("")
	f.decide(items[0].ID, "confirm").want(t, http.StatusOK)
	a := s.ask("GET", "/v1/moderation/flags", "", moderator, "moderator").want(t, http.StatusServiceUnavailable)
	if a.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
}

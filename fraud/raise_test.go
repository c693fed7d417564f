package fraud_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

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

// brittleLedger can be made to fail too.
type brittleLedger struct {
	subscription.Ledger
	down    atomic.Bool
	refused atomic.Int64
}

func (b *brittleLedger) Save(ctx context.Context, c subscription.Checkpoint) error {
	if b.down.Load() {
		b.refused.Add(1)
		return errDown
	}
	return b.Ledger.Save(ctx, c)
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
	ledger := &brittleLedger{Ledger: w.side.Ledger()}
	s := w.runOn(l, ledger, likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 1, start)...)
	s.catchUp() // the rule is defined

	b.down.Store(true)
	ledger.down.Store(true)
	w.post(likes(user(1), 3, start.Add(time.Minute))...)
	w.post(likes(user(2), 3, start.Add(time.Minute))...)
	// Others' events need no flag. That they are handled well must not make those
	// that need one look poisonous.
	for i := range 64 {
		w.post(likes(user(100+i), 1, start.Add(time.Minute))...)
	}
	until(t, "flags have been refused often", func() bool { return s.failures("fraud-rules") > 5 })
	if n := s.parked("fraud-rules"); n > 0 {
		t.Errorf("%d events are parked", n)
	}
	if a := s.decide(user(9), "confirm"); a.status != http.StatusNotFound {
		t.Errorf("reading goes on: %d %s", a.status, a.body)
	}
	b.down.Store(false)
	until(t, "a checkpoint was refused", func() bool { return ledger.refused.Load() > 0 })
	ledger.down.Store(false)
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

// crooked is an activity log one event of which cannot be read when it is read as
// evidence, which is from right before it.
type crooked struct {
	log.Reader
	sequence uint64
	mended   atomic.Bool
}

func (c *crooked) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	if after != c.sequence-1 || c.mended.Load() {
		return c.Reader.Read(ctx, partition, after)
	}
	return func(yield func(events.Commit, error) bool) {
		for commit, err := range c.Reader.Read(ctx, partition, after) {
			if err == nil {
				commit, err = c.bend(commit)
			}
			if !yield(commit, err) {
				return
			}
		}
	}
}

func (c *crooked) bend(commit events.Commit) (events.Commit, error) {
	var list []events.Event
	for e := range commit.Events() {
		if e.Sequence == c.sequence {
			e.Data = []byte(`{"target":7}`)
		}
		list = append(list, e.Event)
	}
	return events.Encode(commit.Log, commit.Partition, commit.First, commit.RecordedAt, commit.Writer, list)
}

func TestAHitThatNoFlagCanBeMadeOfHoldsUpItsUserOnly(t *testing.T) {
	w := newWorld(t)
	var same []uuid.UUID // users of one partition
	for i := 0; len(same) < 3; i++ {
		if events.PartitionOf(user(i), events.ActivityPartitions) == 0 {
			same = append(same, user(i))
		}
	}
	w.post(likes(same[0], 1, start)...) // event 1
	w.post(likes(same[1], 3, start)...) // events 2 to 4
	w.post(likes(same[2], 3, start)...)
	bent := &crooked{Reader: w.activity, sequence: 2}
	w.reader = bent
	s := w.run(likesRule("three-likes", 3, 40))
	if items, _ := s.flags(""); len(items) != 1 || items[0].User != same[2] {
		t.Errorf("flags: %+v, want that of the other user alone", items)
	}
	until(t, "the event that hit is parked, and it alone", func() bool { return s.parked("fraud-rules") == 1 })
	s.stop()
	c, err := w.side.Ledger().Load(t.Context(), subscription.Place{Group: "fraud-raised", Log: events.ActivityLog})
	if err != nil || c.Sequence >= 4 {
		t.Errorf("flags count as raised up to %d (%v), want less than 4", c.Sequence, err)
	}

	// It is not lost: with a build that can read the event, say.
	bent.mended.Store(true)
	s = w.run(likesRule("three-likes", 3, 40))
	if items, _ := s.flags(""); len(items) != 2 {
		t.Errorf("flags: %+v, want 2", items)
	}
}

func TestAnEventOfAFlagThatCannotBeReadHoldsUpItsFlagOnly(t *testing.T) {
	s, items := withFlags(t, 2)
	broken, sound := items[0].ID, items[1].ID
	write := func(version uint64, eventType, data string) {
		t.Helper()
		e := events.Event{ID: uuid.New(), Type: eventType, Stream: broken, Version: version, OccurredAt: start, Data: []byte(data)}
		if _, err := s.fraud.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	write(2, events.FlagAssigned, `{"assignee":7}`)
	write(3, events.FlagDismissed, fmt.Sprintf(`{"user":%q,"rule":"three-likes","by":%q}`, items[0].User, moderator))
	s.decide(sound, "confirm").want(t, http.StatusOK)
	until(t, "both events are parked", func() bool { return s.parked("fraud-flags") == 2 })
	list, _ := s.flags("?sort=raised_at")
	if len(list) != 2 || list[0].State != "open" || list[1].State != "confirmed" {
		t.Errorf("flags: %+v, want the first as it was before what cannot be read", list)
	}
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

// Where nothing is raised, what was worked through is kept all the same, so that it
// shows, and is not gone over again at the next start.
func TestTheCheckpointFollowsWhereNothingIsRaised(t *testing.T) {
	w := newWorld(t)
	ledger := w.side.Ledger()
	w.runOn(w.fraud, ledger, likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 2, start)...)
	at := subscription.Place{Group: "fraud-raised", Log: events.ActivityLog, Partition: events.PartitionOf(user(1), events.ActivityPartitions)}
	until(t, "the checkpoint stands at the head", func() bool {
		there, err := ledger.Load(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		return there.Sequence == 2
	})
}

package fraud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/rule"
)

// aFlag is the n-th flag that a test writes into the log itself.
func aFlag(n int) uuid.UUID { return uuid.NewSHA1(uuid.UUID{9}, []byte{byte(n), byte(n >> 8)}) }

// raise writes flags of the users 1 to n straight into the log, raised a second
// apart. They expire after a while, unless that is zero.
func (w *world) raise(n int, ruleID string, while time.Duration) (ids []uuid.UUID) {
	w.Helper()
	var evs []events.Event
	for i := range n {
		f := events.Flag{User: user(i + 1), Rule: ruleID, RuleVersion: "v", Score: 40, Observed: 3, Threshold: 3, Evidence: []events.Evidence{}}
		at := start.Add(time.Duration(i) * time.Second)
		if while > 0 {
			end := at.Add(while)
			f.ExpiresAt = &end
		}
		data, err := json.Marshal(f)
		if err != nil {
			w.Fatal(err)
		}
		id := aFlag(i + 1)
		ids = append(ids, id)
		evs = append(evs, events.Event{ID: events.DeriveID(id, "raised"), Type: events.FlagRaised, Stream: id, Version: 1, OccurredAt: at, Data: data})
	}
	for part := range slices.Chunk(evs, 1000) {
		if _, err := w.fraud.Append(w.Context(), part...); err != nil {
			w.Fatal(err)
		}
	}
	return ids
}

// sweeping is a service that looks for expired flags all the time.
func (w *world) sweeping(rules ...rule.Rule) *running {
	w.Helper()
	return w.runWith(fraud.Config{Rules: rules, ExpireEvery: time.Millisecond}, w.fraud, w.side.Ledger())
}

func TestAFlagThatNobodyDecidesOnExpires(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(3, "three-likes", time.Hour)
	s := w.sweeping(likesRule("three-likes", 3, 40))
	if f := s.flag(ids[0]); f.State != "open" || f.ExpiresAt != "2026-03-01T13:00:00.123456Z" {
		t.Fatalf("%+v", f)
	}
	s.ask("POST", "/v1/moderation/flags/"+ids[1].String()+"/assignee", fmt.Sprintf(`{"assignee":%q}`, moderator), moderator, "moderator").want(t, http.StatusOK)
	s.decide(ids[2], "escalate").want(t, http.StatusOK)
	end := start.Add(time.Hour)
	w.clock.Set(end.Add(time.Minute))
	until(t, "two flags have expired, whether taken or not", func() bool {
		expired, _ := s.flags("?state=expired")
		return len(expired) == 2
	})
	f := s.flag(ids[0])
	last := f.History[len(f.History)-1]
	if f.State != "expired" || last.Type != "expired" || last.By != nil || last.At != "2026-03-01T13:00:00.123456Z" {
		t.Errorf("%+v", f)
	}
	written := w.fraudEvents(w.fraud, events.FlagExpired)
	if len(written) != 2 || !written[0].OccurredAt.Equal(end) {
		t.Errorf("events: %+v", written)
	}
	s.decide(ids[0], "confirm").want(t, http.StatusConflict)
	if f := s.flag(ids[2]); f.State != "open" || !f.Escalated {
		t.Errorf("an escalated flag does not expire: %+v", f)
	}

	// An expired flag snoozes nothing.
	w.post(likes(user(1), 3, end.Add(time.Second))...)
	s.catchUp()
	if items, _ := s.flags("?state=open&user=" + user(1).String()); len(items) != 1 || items[0].Rule != "three-likes" {
		t.Errorf("the next hit raises another: %+v", items)
	}
}

// A replay finds no sweeper at work between the events. What it raises must not
// hang on that.
func TestAHitTakesThePlaceOfAFlagWhoseTimeIsOver(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(2, "three-likes", time.Hour)
	s := w.run(likesRule("three-likes", 3, 40)) // looks once a minute
	// Both hit when the first one's time is just over; the second has a second left.
	w.post(likes(user(1), 3, start.Add(time.Hour-2*time.Second))...)
	w.post(likes(user(2), 3, start.Add(time.Hour-2*time.Second))...)
	s.catchUp()
	open, _ := s.flags("?state=open&user=" + user(1).String())
	expired, _ := s.flags("?state=expired")
	if len(open) != 1 || len(expired) != 1 || expired[0].ID != ids[0] || open[0].RaisedAt != "2026-03-01T13:00:00.123456Z" {
		t.Fatalf("open %+v, expired %+v", open, expired)
	}
	if other, _ := s.flags("?user=" + user(2).String()); len(other) != 1 || other[0].ID != ids[1] {
		t.Errorf("a flag that has a second left: %+v", other)
	}
	over, raised := w.fraudEvents(w.fraud, events.FlagExpired), w.fraudEvents(w.fraud, events.FlagRaised)
	if len(over) != 1 || len(raised) != 3 || over[0].Sequence+1 != raised[2].Sequence {
		t.Errorf("the two stand apart in the log: %+v, %+v", over, raised)
	}
}

// The one whose place the new flag is to take may have moved on where this build
// cannot read it. That must not keep the hit from raising a flag.
func TestAFlagThatCannotBeReadAnyMoreIsNotInTheWay(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(2, "three-likes", time.Hour)
	s := w.sweeping(likesRule("three-likes", 3, 40))
	e := events.Event{ID: uuid.New(), Type: events.FlagAssigned, Stream: ids[0], Version: 2, OccurredAt: start, Data: []byte(`{"assignee":7}`)}
	if _, err := w.fraud.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	until(t, "the event is parked", func() bool { return s.parked("fraud-flags") == 1 })
	w.post(likes(user(1), 3, start.Add(2*time.Hour))...)
	s.catchUp()
	if items, _ := s.flags("?user=" + user(1).String()); len(items) != 2 {
		t.Errorf("flags: %+v, want one more", items)
	}
	w.clock.Set(start.Add(2 * time.Hour))
	until(t, "the other flag has expired", func() bool {
		expired, _ := s.flags("?state=expired")
		return len(expired) == 1 && expired[0].ID == ids[1]
	})
}

func TestOfTimeAndAModeratorOneDecides(t *testing.T) {
	const n = 60
	w := newWorld(t)
	ids := w.raise(n, "three-likes", time.Hour)
	instances := []*running{w.sweeping(likesRule("three-likes", 3, 40)), w.sweeping(likesRule("three-likes", 3, 40))}
	statuses := make([]int, 2*n)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	wg.Go(func() {
		<-begin
		// The flags' times are over a second apart.
		for i := range n {
			w.clock.Set(start.Add(time.Hour + time.Duration(i)*time.Second))
		}
	})
	for i := range statuses {
		wg.Go(func() {
			<-begin
			statuses[i] = instances[i%2].decide(ids[i/2], []string{"confirm", "dismiss"}[i%2]).status
		})
	}
	close(begin)
	wg.Wait()
	s := instances[0]
	until(t, "every flag is decided on or has expired", func() bool {
		open, _ := s.flags("?state=open&limit=100")
		return len(open) == 0
	})
	s.catchUp()
	settled := map[uuid.UUID]int{}
	for _, eventType := range []string{events.FlagConfirmed, events.FlagDismissed, events.FlagExpired} {
		for _, e := range w.fraudEvents(w.fraud, eventType) {
			settled[e.Stream]++
		}
	}
	for i, id := range ids {
		accepted := 0
		for _, status := range statuses[2*i : 2*i+2] {
			if status == http.StatusOK {
				accepted++
			} else if status != http.StatusConflict {
				t.Errorf("a decision was answered with %d", status)
			}
		}
		if state := s.flag(id).State; settled[id] != 1 || accepted > 1 || (accepted == 1) == (state == "expired") {
			t.Errorf("flag %d is %s: %d events settle it, %d decisions were accepted", i, state, settled[id], accepted)
		}
	}
}

func TestNextPassesOverFlagsWhoseTimeIsOver(t *testing.T) {
	w := newWorld(t)
	ids := w.raise(2, "three-likes", time.Hour)
	s := w.run(likesRule("three-likes", 3, 40)) // looks once a minute
	w.clock.Set(start.Add(time.Hour))
	var f flagged
	s.ask("POST", "/v1/moderation/flags/next", "", moderator, "moderator").want(t, http.StatusOK).into(t, &f)
	if f.ID != ids[1] {
		t.Errorf("handed out %s, want the one that can be decided on", f.ID)
	}
	if f := s.flag(ids[0]); f.State != "expired" {
		t.Errorf("%+v", f)
	}
}

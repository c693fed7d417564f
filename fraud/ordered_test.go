package fraud_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/rule"
)

// crowdRule flags whom so many different people like within an hour.
func crowdRule(id string, threshold int) rule.Rule {
	r := likesRule(id, threshold, 40)
	r.Key, r.Aggregate = rule.KeyTarget, rule.Distinct
	return r
}

// ringRule flags so many accounts that like the same two people within an hour.
func ringRule(id string, threshold int) rule.Rule {
	r := likesRule(id, threshold, 40)
	r.Aggregate, r.Lockstep = rule.InLockstep, &rule.Lockstep{Targets: 2}
	return r
}

// Each account of a ring is flagged, and each flag shows all of the ring.
func TestARingIsFlaggedWhole(t *testing.T) {
	w := newWorld(t)
	s := w.run(ringRule("ring", 3))
	for i := range 3 {
		w.post(likes(user(i), 2, start.Add(time.Duration(i)*time.Minute))...)
	}
	w.post(likes(user(4), 1, start.Add(4*time.Minute))...) // likes only one of the two
	s.catchUp()
	items, _ := s.flags("")
	flagged := make(map[uuid.UUID]bool)
	for _, f := range items {
		flagged[f.User] = true
		shown := s.flag(f.ID)
		actors := make(map[uuid.UUID]int)
		for _, e := range shown.Evidence {
			if e.Actor == uuid.Nil {
				e.Actor = f.User
			}
			actors[e.Actor]++
		}
		if len(actors) != 3 || actors[user(0)] != 2 || actors[user(1)] != 2 || actors[user(2)] != 2 || shown.Observed != 3 {
			t.Errorf("flag of %s shows %v", f.User, actors)
		}
	}
	if len(items) != 3 || !flagged[user(0)] || !flagged[user(1)] || !flagged[user(2)] {
		t.Errorf("flagged are %v", flagged)
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// Those who like a user stand in several partitions; the flag is the user's, and shows
// who they were.
func TestARuleByTargetFlagsWhomOthersLike(t *testing.T) {
	w := newWorld(t)
	s := w.run(crowdRule("crowd", 3))
	w.post(likes(user(1), 1, start)...)
	w.post(likes(user(2), 1, start.Add(time.Minute))...)
	s.catchUp()
	if raised := w.fraudEvents(w.fraud, events.FlagRaised); len(raised) != 0 {
		t.Fatalf("two are enough for %d flags", len(raised))
	}
	w.post(likes(user(3), 1, start.Add(2*time.Minute))...)
	s.catchUp()
	items, _ := s.flags("")
	if len(items) != 1 {
		t.Fatalf("%d flags, want 1", len(items))
	}
	shown := s.flag(items[0].ID)
	if shown.User != person(0) || len(shown.Evidence) != 3 {
		t.Fatalf("%+v, want 3 events about %s", shown, person(0))
	}
	for i, e := range shown.Evidence {
		if e.Actor != user(i+1) || e.Target != person(0) {
			t.Errorf("evidence %d: %+v", i, e)
		}
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

// While nobody needs the order of all partitions, no cut is made.
func TestCutsAreMadeWhileARuleNeedsThem(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	if n := len(w.fraudEvents(w.fraud, events.OrderCut)); n != 0 {
		t.Fatalf("%d cuts", n)
	}
	s.put(crowdRule("crowd", 2), "new", nil).want(t, http.StatusCreated)
	s.setMode("crowd", rule.Shadow, false).want(t, http.StatusOK)
	w.post(likes(user(2), 3, start.Add(time.Minute))...)
	s.catchUp()
	cuts := len(w.fraudEvents(w.fraud, events.OrderCut))
	if cuts == 0 {
		t.Fatal("no cut is made")
	}
	s.setMode("crowd", rule.Retired, false).want(t, http.StatusOK)
	s.catchUp()
	w.post(likes(user(3), 3, start.Add(2*time.Minute))...)
	s.catchUp()
	if n := len(w.fraudEvents(w.fraud, events.OrderCut)); n != cuts {
		t.Errorf("%d cuts after the rule is retired, %d before", n, cuts)
	}
}

// A rule that counts what one actor does stays one.
func TestARuleDoesNotChangeTheOrderThatItNeeds(t *testing.T) {
	s := newWorld(t).run(likesRule("mine", 3, 40))
	a := s.put(crowdRule("mine", 3), "another", nil)
	if a.status != http.StatusConflict && a.status != http.StatusUnprocessableEntity {
		t.Fatalf("%d %s", a.status, a.body)
	}
	s.put(likesRule("mine", 4, 40), "another", nil).want(t, http.StatusOK)
}

// What comes late is counted where the cuts have it, live and in a backtest; by the time
// alone another flag would be raised.
func TestABacktestOfAnOrderedRuleFindsTheLiveFlags(t *testing.T) {
	w := newWorld(t)
	crowd := crowdRule("crowd", 3)
	crowd.Window.Sliding = rule.Duration(time.Minute)
	s := w.run(crowd)
	w.post(likes(user(1), 1, start)...)
	w.post(likes(user(2), 1, start.Add(5*time.Minute))...)
	s.catchUp() // a cut
	w.post(likes(user(3), 1, start.Add(10*time.Second))...)
	w.post(likes(user(4), 1, start.Add(20*time.Second))...)
	s.catchUp()
	raised := w.fraudEvents(w.fraud, events.FlagRaised)
	if len(raised) != 1 {
		t.Fatalf("%d flags, want 1", len(raised))
	}
	for _, cuts := range []log.Reader{w.fraud, nil} {
		report, err := backtest.Run(t.Context(), w.activity, []rule.Rule{crowd}, backtest.Options{Cuts: cuts})
		if err != nil {
			t.Fatal(err)
		}
		one := report.Rules[0]
		if one.Users != 1 || len(one.Flags) != 1 || report.Events != 4 || report.Whole.Events != 4 {
			t.Fatalf("%+v", report)
		}
		if same := bytes.Equal(one.Flags[0].Payload, raised[0].Data); same != (cuts != nil) {
			t.Errorf("with cuts from %v: %s, live %s", cuts, one.Flags[0].Payload, raised[0].Data)
		}
	}
	w.sameFlags(w.fraud, w.expectedFlags())
}

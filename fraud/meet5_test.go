package fraud_test

import (
	"bytes"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/rulebook"
)

// The accounts of these tests.
var (
	tooFast  = user(1) // 100 people within ten minutes
	slower   = user(2) // the same in eleven
	modest   = user(3) // 99 people
	onTheDot = user(4) // the last like exactly ten minutes after joining
)

// postSprees writes what the four accounts do, as a trusted source.
func postSprees(w *world) {
	w.post(spree(tooFast, start, 100, 9*time.Minute)...)
	w.post(spree(slower, start, 100, 11*time.Minute)...)
	w.post(spree(modest, start, 99, 5*time.Minute)...)
	w.post(spree(onTheDot, start.Add(time.Hour), 100, 10*time.Minute)...)
}

func TestWhoVisitsAndLikesAHundredPeopleInTenMinutesIsFlagged(t *testing.T) {
	w := newWorld(t)
	s := w.run()
	postSprees(w)
	s.catchUp()

	items, next := s.flags("?sort=raised_at")
	if len(items) != 2 || items[0].User != tooFast || items[1].User != onTheDot || next != "" {
		t.Fatalf("flags: %+v, want those of %s and %s", items, tooFast, onTheDot)
	}
	f := s.flag(items[0].ID)
	if f.Rule != "meet5-first-minutes" || f.State != "open" || f.Score != 90 || f.Observed != 100 || f.Threshold != 100 ||
		f.EvidenceCount != 200 || len(f.Evidence) != 200 || f.RaisedAt != "2026-03-01T12:09:00.123456Z" {
		t.Errorf("%+v", f)
	}
	paired := make(map[uuid.UUID]string)
	for i, e := range f.Evidence {
		want := "visit"
		if i >= 100 {
			want = "like"
		}
		if e.Type != want || e.EventID == uuid.Nil || e.OccurredAt == "" {
			t.Fatalf("evidence %d: %+v, want a %s", i, e, want)
		}
		paired[e.Target] += e.Type + " "
	}
	if len(paired) != 100 {
		t.Errorf("evidence about %d people, want 100", len(paired))
	}
	for target, what := range paired {
		if what != "visit like " {
			t.Errorf("%s: %s", target, what)
		}
	}
	if len(f.History) != 1 || f.History[0].Type != "raised" || f.History[0].By != nil {
		t.Errorf("history: %+v", f.History)
	}
}

func TestMembersAreJudgedByTheServersClock(t *testing.T) {
	w := newWorld(t)
	s := w.run()
	// Each says that all of it happened in the first seconds. The server knows
	// better of the second.
	for i, last := range []time.Duration{10 * time.Minute, 11 * time.Minute} {
		joined := start.Add(time.Duration(i) * time.Hour)
		for _, a := range spree(user(10+i), joined, 100, last) {
			w.clock.Set(a.at)
			a.member, a.at = true, joined.Add(time.Second)
			w.post(a)
		}
	}
	s.catchUp()
	items, _ := s.flags("")
	if len(items) != 1 || items[0].User != user(10) || items[0].RaisedAt != "2026-03-01T12:10:00.123456Z" {
		t.Fatalf("flags: %+v, want one of %s", items, user(10))
	}
}

func TestAFlagIsTheSameAfterARestartOnAnotherInstanceAndInABacktest(t *testing.T) {
	w := newWorld(t)
	first := w.run()
	postSprees(w)
	first.catchUp()
	want := w.fraudEvents(w.fraud, events.FlagRaised)
	if len(want) != 2 {
		t.Fatalf("%d flags, want 2", len(want))
	}
	same := func(what string, got []events.Recorded) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %d flags, want %d", what, len(got), len(want))
		}
		for _, g := range got {
			found := false
			for _, e := range want {
				if g.Stream == e.Stream {
					found = g.ID == e.ID && g.OccurredAt.Equal(e.OccurredAt) && bytes.Equal(g.Data, e.Data)
				}
			}
			if !found {
				t.Errorf("%s: flag %s differs: %s", what, g.Stream, g.Data)
			}
		}
	}

	// Beside it, and after a restart of both.
	second := w.run()
	same("with a second instance", w.fraudEvents(w.fraud, events.FlagRaised))
	first.stop()
	second.stop()
	w.run().stop()
	same("after a restart", w.fraudEvents(w.fraud, events.FlagRaised))

	// As after losing the checkpoints: everything is found anew, nothing is raised
	// twice.
	w.runOn(w.fraud, subscription.NewMemory()).stop()
	same("without checkpoints", w.fraudEvents(w.fraud, events.FlagRaised))

	// From the activity log alone, into a fraud log of its own.
	replayed := w.openLog("fraud-replayed", events.FraudPartitions)
	w.runOn(replayed, subscription.NewMemory()).stop()
	same("replayed", w.fraudEvents(replayed, events.FlagRaised))

	rules, err := rulebook.Rules()
	if err != nil {
		t.Fatal(err)
	}
	report, err := backtest.Run(t.Context(), w.activity, rules, backtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var tested []events.Recorded
	for _, r := range report.Rules {
		if r.Rule != "meet5-first-minutes" {
			continue
		}
		if r.Hits != 2 || r.Users != 2 {
			t.Errorf("backtest: %d hits on %d users, want 2 on 2", r.Hits, r.Users)
		}
		for _, f := range r.Flags {
			tested = append(tested, events.Recorded{Event: events.Event{
				ID: events.DeriveID(f.ID, "raised"), Stream: f.ID, OccurredAt: f.RaisedAt, Data: f.Payload,
			}})
		}
	}
	same("in a backtest", tested)
}

func TestHistoryBehindTheCheckpointOnlyWarmsTheWindows(t *testing.T) {
	w := newWorld(t)
	acts := spree(tooFast, start, 100, 9*time.Minute)
	w.post(acts[:150]...)
	s := w.run()
	if items, _ := s.flags(""); len(items) != 0 {
		t.Fatalf("flags: %+v", items)
	}
	s.stop()
	// The other half arrives after a restart: the windows know the first.
	w.post(acts[150:]...)
	s = w.run()
	items, _ := s.flags("")
	if len(items) != 1 || items[0].EvidenceCount != 200 {
		t.Fatalf("flags: %+v, want one on 200 events", items)
	}
	s.stop()

	// A rule that comes new finds what is past, and raises nothing for it.
	likes := rule.Rule{
		ID: "fifty-likes", Title: "Fifty likes", Key: rule.KeyActor, Events: []rule.Kind{rule.Like},
		Window: rule.Window{Sliding: rule.Duration(time.Hour)}, Aggregate: rule.Count, Threshold: 50, Score: 10,
		Effect: rule.Flag, Mode: rule.Live,
	}
	s = w.run(likes)
	if items, _ := s.flags("?rule=fifty-likes"); len(items) != 0 {
		t.Fatalf("flags: %+v", items)
	}
	var shown struct{ Hits int }
	s.ask("GET", "/v1/moderation/rules/fifty-likes", "", moderator, "moderator").into(t, &shown)
	if shown.Hits != 1 {
		t.Errorf("%d hits, want 1", shown.Hits)
	}
}

func TestAShadowRuleFlagsNobody(t *testing.T) {
	w := newWorld(t)
	s := w.run()
	var storm []act
	for i := range 70 {
		storm = append(storm, act{actor: user(1), joined: start.AddDate(-1, 0, 0), kind: rule.Like, target: person(i), at: start.Add(time.Duration(i) * time.Second / 2)})
	}
	w.post(storm...)
	s.catchUp()
	if items, _ := s.flags(""); len(items) != 0 {
		t.Errorf("flags: %+v", items)
	}
	var page struct {
		Items []struct {
			ID, Mode, Version string
			Hits              *int
		}
	}
	a := s.ask("GET", "/v1/moderation/rules", "", moderator, "moderator")
	if a.status != http.StatusOK {
		t.Fatalf("%d %s", a.status, a.body)
	}
	a.into(t, &page)
	got := make(map[string]int)
	for _, r := range page.Items {
		got[r.ID+" "+r.Mode] = -1
		if r.Hits != nil {
			got[r.ID+" "+r.Mode] = *r.Hits
		}
	}
	want := map[string]int{"like-churn draft": -1, "like-storm shadow": 1, "meet5-first-minutes live": 0, "visit-scraping shadow": 0}
	for name, hits := range want {
		if n, ok := got[name]; !ok || n != hits {
			t.Errorf("%s: %d hits (listed: %v), want %d", name, n, ok, hits)
		}
	}
}

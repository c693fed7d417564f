package fraud_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/rule"
)

func marking(id string) rule.Rule {
	r := likesRule(id, 3, 100)
	r.Effect = rule.FlagAndMark
	return r
}

func (w *world) withQuota(quota int, rules ...rule.Rule) *running {
	w.Helper()
	return w.runWith(fraud.Config{Rules: rules, MarkQuota: quota}, w.fraud, w.side.Ledger())
}

func TestBeyondTheDaysQuotaRulesOnlyFlagAndSaySo(t *testing.T) {
	w := newWorld(t)
	s := w.withQuota(2, marking("one"), marking("two")) // both hit at once
	w.post(likes(user(1), 3, start)...)
	w.post(likes(user(2), 3, start)...)
	s.catchUp()
	count := func(query string, want int) []flagged {
		t.Helper()
		items, _ := s.flags(query)
		if len(items) != want {
			t.Fatalf("%s: %d flags, want %d", query, len(items), want)
		}
		return items
	}
	count("?state=confirmed", 2)
	left := count("?state=open", 2)
	f := s.flag(left[0].ID)
	const why = "the day's quota of 2 automatic marks is used up; left to a moderator"
	if len(f.Notes) != 1 || f.Notes[0].Text != why || f.Notes[0].By != nil || f.History[1].Type != "noted" || f.History[1].By != nil {
		t.Errorf("%+v", f)
	}
	s.decide(f.ID, "confirm").want(t, http.StatusOK) // a moderator's mark takes nothing of the quota
	// Overturning a mark gives nothing back: the rule may be wrong.
	s.decide(count("?state=confirmed&sort=raised_at", 3)[0].ID, "overturn")
	w.post(likes(user(3), 3, start.Add(time.Hour))...)
	s.catchUp()
	count("?state=open", 3)

	// Another instance, from the beginning, counts the same; another day is another.
	s.stop()
	s = w.withQuota(2, marking("one"), marking("two"))
	w.post(likes(user(4), 3, start.Add(2*time.Hour))...)
	s.catchUp()
	count("?state=open", 5)
	w.post(likes(user(5), 3, start.Add(12*time.Hour))...)
	s.catchUp()
	count("?state=open", 5)
	if marks := len(w.fraudEvents(w.fraud, events.FlagConfirmed)); marks != 5 {
		t.Errorf("%d confirmations, want two a day by rules and one by a moderator", marks)
	}
}

func TestSeveralInstancesAtOnceKeepToTheQuota(t *testing.T) {
	const quota, n = 5, 24
	w := newWorld(t)
	for i := range n {
		w.post(likes(user(i), 3, start)...)
	}
	rules := []rule.Rule{marking("one")}
	instances := make([]*running, 3)
	done := make(chan struct{})
	for i := range instances {
		go func() {
			defer func() { done <- struct{}{} }()
			instances[i] = w.withQuota(quota, rules...)
		}()
	}
	for range instances {
		<-done
	}
	for _, s := range instances {
		if s == nil {
			t.FailNow()
		}
		s.catchUp()
		confirmed, _ := s.flags("?state=confirmed")
		open, _ := s.flags("?state=open")
		if len(confirmed) != quota || len(open) != n-quota {
			t.Errorf("%d flags are confirmed and %d open, want %d and %d", len(confirmed), len(open), quota, n-quota)
		}
	}
}

func TestMarksThatAreWithheldShow(t *testing.T) {
	w := newWorld(t)
	registry := prometheus.NewRegistry()
	w.metrics = registry
	s := w.withQuota(1, marking("one"), marking("two"))
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "meet5_fraud_marks_withheld_total" {
			if m := f.GetMetric(); len(m) != 1 || m[0].GetCounter().GetValue() != 1 {
				t.Errorf("%v, want one", m)
			}
			return
		}
	}
	t.Error("there is no such metric")
}

func TestNoQuotaMeansThatRulesNeverMark(t *testing.T) {
	w := newWorld(t)
	s := w.withQuota(-1, marking("one"))
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	if items, _ := s.flags("?state=open"); len(items) != 1 {
		t.Errorf("flags: %+v", items)
	}
}

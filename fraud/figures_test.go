package fraud_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/fraud/rule"
)

func TestARuleThatHitsTooManyWithinAnHourIsMarked(t *testing.T) {
	w := newWorld(t)
	w.metrics = prometheus.NewRegistry()
	shadow := likesRule("one-like", 1, 40)
	shadow.Mode = rule.Shadow
	s := w.run(shadow, likesRule("many-likes", 100, 40))
	for i := range 100 {
		w.post(likes(user(i), 1, start.Add(time.Duration(i)*36*time.Second))...)
	}
	noisy := func() string {
		t.Helper()
		var shown struct {
			Metrics struct {
				UsersInAnHour int `json:"users_in_an_hour"`
				Noisy         []string
			}
		}
		s.ask("GET", "/v1/moderation/rules/one-like", "", moderator, "moderator").want(t, http.StatusOK).into(t, &shown)
		// Whether it is slow depends on the machine, and on what else that does.
		reasons := slices.DeleteFunc(shown.Metrics.Noisy, func(r string) bool { return strings.HasPrefix(r, "slow") })
		return fmt.Sprint(shown.Metrics.UsersInAnHour, reasons)
	}
	s.catchUp()
	if got := noisy(); got != "100 []" {
		t.Errorf("at the bound: %s", got)
	}
	w.post(likes(user(100), 1, start.Add(time.Hour))...)
	s.catchUp()
	if got := noisy(); got != "101 [hits too many: 101 users within an hour, more than 100]" {
		t.Errorf("one more, exactly an hour after the first: %s", got)
	}
	w.post(likes(user(101), 1, start.Add(3*time.Hour))...)
	s.catchUp()
	if got := noisy(); got != "1 []" {
		t.Errorf("later: %s", got)
	}
	a := s.ask("GET", "/metrics", "", moderator).want(t, http.StatusOK)
	for _, line := range []string{
		`meet5_fraud_rule_evaluations_total{rule="one-like"} 102`, `meet5_fraud_rule_evaluations_total{rule="many-likes"} 102`,
		`meet5_fraud_rule_hits_total{mode="shadow",rule="one-like"} 102`,
	} {
		if !strings.Contains(string(a.body), line+"\n") {
			t.Errorf("%s is missing in\n%s", line, a.body)
		}
	}
}

func TestARulesPrecisionIsWhatModeratorsSay(t *testing.T) {
	w := newWorld(t)
	w.metrics = prometheus.NewRegistry()
	s := w.run(likesRule("three-likes", 3, 40))
	for i := range 4 {
		w.post(likes(user(i), 3, start.Add(time.Duration(i)*time.Minute))...)
	}
	s.catchUp()
	if shown, _ := s.rule("three-likes"); shown.Metrics.Precision != nil {
		t.Errorf("with nothing decided: %v", *shown.Metrics.Precision)
	}
	items, _ := s.flags("?sort=raised_at")
	for i, decision := range []string{"confirm", "confirm", "dismiss"} {
		s.decide(items[i].ID, decision).want(t, http.StatusOK)
	}
	s.decide(items[1].ID, "overturn").want(t, http.StatusOK)
	shown, _ := s.rule("three-likes")
	if m := shown.Metrics; *m.Confirmed != 1 || *m.Dismissed != 2 || m.Precision == nil || fmt.Sprintf("%.3f", *m.Precision) != "0.333" {
		t.Errorf("%+v", m)
	}
	a := s.ask("GET", "/metrics", "", moderator).want(t, http.StatusOK)
	for _, line := range []string{
		`meet5_fraud_rule_flags{rule="three-likes",state="open"} 1`, `meet5_fraud_rule_flags{rule="three-likes",state="overturned"} 1`,
		`meet5_fraud_raise_seconds_count{rule="three-likes"} 4`,
	} {
		if !strings.Contains(string(a.body), line+"\n") {
			t.Errorf("%s is missing in\n%s", line, a.body)
		}
	}
	until(t, "what the rule costs is measured", func() bool {
		return strings.Contains(string(s.ask("GET", "/metrics", "", moderator).body), `meet5_fraud_rule_event_seconds{rule="three-likes"}`)
	})
}

func TestHowManyBacktestsWaitAndRunIsShown(t *testing.T) {
	w := newWorld(t)
	w.metrics = prometheus.NewRegistry()
	g := &gate{Reader: w.activity}
	w.reader = g
	s := w.run(likesRule("three-likes", 3, 40))
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	shows := func(queued, running int) {
		t.Helper()
		text := string(s.ask("GET", "/metrics", "", moderator).want(t, http.StatusOK).body)
		for state, n := range map[string]int{"queued": queued, "running": running} {
			if line := fmt.Sprintf("meet5_fraud_backtests{state=%q} %d\n", state, n); !strings.Contains(text, line) {
				t.Errorf("%s is missing in\n%s", line, text)
			}
		}
	}
	shows(0, 0)
	open := g.close()
	defer open()
	first := s.request(`{"rules": ["three-likes"]}`)
	s.await(first.ID, queue.Running)
	second := s.request(`{"rules": ["three-likes"]}`)
	third := s.request(`{"rules": ["three-likes"]}`)
	shows(2, 1)
	open()
	for _, b := range []tested{first, second, third} {
		s.await(b.ID, queue.Done)
	}
	shows(0, 0)
}

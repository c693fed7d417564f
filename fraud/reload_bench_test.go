package fraud_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// BenchmarkReload is a change of one rule's threshold beside the rule book, from the
// request until the new engines, warmed with 100,000 events, have taken over.
func BenchmarkReload(b *testing.B) {
	const users, each = 1000, 100
	w := newWorld(b)
	for n := range users {
		evs := make([]events.Event, each)
		for i := range evs {
			kind := rule.Visit
			if i%4 == 0 {
				kind = rule.Like
			}
			evs[i] = act{actor: user(n), joined: start, kind: kind, target: person(i), at: start.Add(time.Duration(i) * time.Minute)}.event()
		}
		if _, err := w.activity.Append(b.Context(), evs...); err != nil {
			b.Fatal(err)
		}
	}
	s := w.run()
	s.put(likesRule("changing", 50, 1), "a benchmark", nil).want(b, http.StatusCreated)
	s.setMode("changing", rule.Shadow, false).want(b, http.StatusOK)
	s.catchUp()
	threshold := 50
	for b.Loop() {
		threshold = 101 - threshold // 51, 50, 51 …
		s.put(likesRule("changing", threshold, 1), "a benchmark", nil).want(b, http.StatusOK)
		s.catchUp()
	}
	b.ReportMetric(float64(b.N)*users*each/b.Elapsed().Seconds(), "events/s")
}

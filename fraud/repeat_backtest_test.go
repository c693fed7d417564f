package fraud_test

import (
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/queue"
)

func TestABacktestThatIsAskedForAgainIsDoneOnce(t *testing.T) {
	s, g := withHistory(t)
	open := g.close()
	defer open()
	id := uuid.New()
	body := fmt.Sprintf(`{"id":%q,"rules":["three-likes",%s],"since":"2026-01-01T00:00:00Z","curve":true}`, id, asJSON(t, likesRule("tried", 5, 10)))
	first := s.request(body)
	if first.ID != id {
		t.Errorf("it has the id %s, want %s", first.ID, id)
	}
	// As many as may wait do: it is answered all the same.
	s.await(first.ID, queue.Running)
	for range queue.MaxWaiting {
		s.request(`{"rules":["three-likes"]}`)
	}
	a := s.ask("POST", "/v1/backtests", body, analyst, "analyst").want(t, http.StatusOK)
	var again tested
	a.into(t, &again)
	if again.ID != id || again.RequestedAt != first.RequestedAt || len(again.Rules) != 2 || a.header.Get("Location") != "/v1/backtests/"+id.String() {
		t.Errorf("again: %s", a.body)
	}
	if n := len(s.fraudEvents(s.fraud, events.BacktestRequested)); n != 1+queue.MaxWaiting {
		t.Errorf("%d were asked for, want %d", n, 1+queue.MaxWaiting)
	}
	open()
	s.await(id, queue.Done)
	s.ask("POST", "/v1/backtests", body, analyst, "analyst").want(t, http.StatusOK).into(t, &again)
	if again.State != "done" {
		t.Errorf("when it is done: %v", again)
	}
	s.withdraw(id).want(t, http.StatusNoContent)
	s.ask("POST", "/v1/backtests", body, analyst, "analyst").want(t, http.StatusConflict)
}

func TestAnIDOfABacktestIsForOneRequestAlone(t *testing.T) {
	s, _ := withHistory(t)
	id := uuid.New()
	tried := likesRule("tried", 5, 10)
	s.request(fmt.Sprintf(`{"id":%q,"rules":["three-likes",%s]}`, id, asJSON(t, tried)))
	other := tried
	other.Threshold++
	flag := must1(s.flags(""))[0].ID
	for what, body := range map[string]string{
		"another rule's text": fmt.Sprintf(`{"id":%q,"rules":["three-likes",%s]}`, id, asJSON(t, other)),
		"another rule's id":   fmt.Sprintf(`{"id":%q,"rules":["nine-likes",%s]}`, id, asJSON(t, tried)),
		"fewer rules":         fmt.Sprintf(`{"id":%q,"rules":["three-likes"]}`, id),
		"another order":       fmt.Sprintf(`{"id":%q,"rules":[%s,"three-likes"]}`, id, asJSON(t, tried)),
		"a curve":             fmt.Sprintf(`{"id":%q,"rules":["three-likes",%s],"curve":true}`, id, asJSON(t, tried)),
		"another period":      fmt.Sprintf(`{"id":%q,"rules":["three-likes",%s],"until":"2026-01-01T00:00:00Z"}`, id, asJSON(t, tried)),
		"a flag's id":         fmt.Sprintf(`{"id":%q,"rules":["three-likes"]}`, flag),
	} {
		if a := s.ask("POST", "/v1/backtests", body, analyst, "analyst"); a.status != http.StatusConflict {
			t.Errorf("%s: %d %s", what, a.status, a.body)
		}
	}
	same := fmt.Sprintf(`{"id":%q,"rules":["three-likes",%s]}`, id, asJSON(t, tried))
	s.ask("POST", "/v1/backtests", same, moderator, "moderator").want(t, http.StatusConflict)
	s.ask("POST", "/v1/backtests", `{"id":"x"}`, analyst, "analyst").want(t, http.StatusUnprocessableEntity)

	// A rule that was named may have been put anew in between.
	_, tag := s.rule("three-likes")
	s.put(likesRule("three-likes", 4, 40), "x", map[string]string{"If-Match": tag}).want(t, http.StatusOK)
	s.ask("POST", "/v1/backtests", same, analyst, "analyst").want(t, http.StatusOK)
}

// The same request comes to two instances at once.
func TestOfTheSameRequestsForABacktestAtOnceOneIsAccepted(t *testing.T) {
	s, _ := withHistory(t)
	instances := []*running{s, s.world.run(likesRule("three-likes", 3, 40), likesRule("nine-likes", 9, 80))}
	body := fmt.Sprintf(`{"id":%q,"rules":["three-likes"]}`, uuid.New())
	statuses := make([]int, 8)
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for i := range statuses {
		wg.Go(func() {
			<-begin
			statuses[i] = instances[i%2].ask("POST", "/v1/backtests", body, analyst, "analyst").status
		})
	}
	close(begin)
	wg.Wait()
	accepted := 0
	for _, status := range statuses {
		switch status {
		case http.StatusAccepted:
			accepted++
		case http.StatusOK:
		default:
			t.Errorf("%v", statuses)
		}
	}
	if n := len(s.fraudEvents(s.fraud, events.BacktestRequested)); accepted != 1 || n != 1 {
		t.Errorf("%d were accepted, %d are in the log: %v", accepted, n, statuses)
	}
}

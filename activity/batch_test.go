package activity_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
)

// visits is a batch of n visits with IDs that follow from their number.
func visits(target uuid.UUID, n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "{\"type\":\"visit\",\"target\":%q,\"id\":%q}\n", target, visitID(target, i))
	}
	return b.String()
}

func visitID(target uuid.UUID, i int) uuid.UUID { return events.DeriveID(target, fmt.Sprint(i)) }

func TestTheLargestBatchIsWrittenInOrderAndOnce(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	body := visits(bob, activity.MaxLines)
	first := w.replies(w.post(lines, w.token(ann), body))
	if len(first) != activity.MaxLines {
		t.Fatalf("%d lines are answered", len(first))
	}
	for i, r := range first {
		if r.Status != 201 || r.ID != visitID(bob, i) || r.Actor != ann || r.Target != bob ||
			r.Sequence != uint64(i+1) || r.RecordedAt != "2026-03-01T12:00:00.123456Z" {
			t.Fatalf("line %d: %+v", i+1, r)
		}
	}
	again := w.replies(w.post(lines, w.token(ann), body))
	for i, r := range again {
		want := first[i]
		want.Status = 200
		if fmt.Sprint(r) != fmt.Sprint(want) {
			t.Fatalf("line %d again: %+v, want %+v", i+1, r, want)
		}
	}
	if n := len(w.recorded()); n != activity.MaxLines {
		t.Errorf("%d events in the log", n)
	}
}

func TestAnIDTwiceInABatchCountsOnce(t *testing.T) {
	w := newWorld(t).run()
	ann, bob, eve := w.newUser(), w.newUser(), w.newUser()
	id := uuid.New()
	body := fmt.Sprintf("{\"type\":\"visit\",\"target\":%q,\"id\":%q}\n{\"type\":\"like\",\"target\":%q,\"id\":%q}", bob, id, eve, id)
	got := w.replies(w.post(lines, w.token(ann), body))
	if got[0].Status != 201 || got[1].Status != 200 || got[1].Type != "visit" || got[1].Target != bob || got[1].Sequence != got[0].Sequence {
		t.Errorf("%+v", got)
	}
	if n := len(w.recorded()); n != 1 {
		t.Errorf("%d events in the log", n)
	}
}

func TestABatchOfManyActorsIsSpreadOverPartitions(t *testing.T) {
	w := newWorld(t).run()
	bot, target := w.newUser(), w.newUser()
	var actors []uuid.UUID
	for range 40 {
		actors = append(actors, w.newUser())
	}
	var body strings.Builder
	const n = 400
	for i := range n {
		fmt.Fprintf(&body, "{\"type\":\"visit\",\"target\":%q,\"actor\":%q,\"id\":%q}\n", target, actors[i%len(actors)], visitID(target, i))
	}
	for _, status := range []int{201, 200} { // the second time, all are known
		next := make(map[int]uint64)
		for i, r := range w.replies(w.post(lines, w.token(bot, "service"), body.String())) {
			actor := actors[i%len(actors)]
			p := events.PartitionOf(actor, events.ActivityPartitions)
			next[p]++
			if r.Status != status || r.Actor != actor || r.ID != visitID(target, i) || r.Partition != p || r.Sequence != next[p] {
				t.Fatalf("line %d: %+v, want partition %d, sequence %d", i+1, r, p, next[p])
			}
		}
	}
	if got := len(w.recorded()); got != n {
		t.Errorf("%d events in the log", got)
	}
}

func TestKnownIDsFarApartAreFoundAgain(t *testing.T) {
	w := newWorld(t).run()
	ann, bob, eve := w.newUser(), w.newUser(), w.newUser()
	w.replies(w.post(lines, w.token(ann), visits(bob, 10)))
	for range 4 {
		w.replies(w.post(lines, w.token(ann), visits(w.newUser(), activity.MaxLines)))
	}
	w.replies(w.post(lines, w.token(ann), visits(eve, 10)))
	got := w.replies(w.post(lines, w.token(ann), visits(eve, 10)+visits(bob, 10)))
	for i, r := range got {
		target := eve
		if i >= 10 {
			target = bob
		}
		if r.Status != 200 || r.Target != target || r.ID != visitID(target, i%10) {
			t.Errorf("line %d: %+v", i+1, r)
		}
	}
}

func TestBatchesOutOfBoundsAreRefusedWhole(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	line := fmt.Sprintf("{\"type\":\"visit\",\"target\":%q}\n", bob)
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"10,001 lines": {strings.Repeat(line, activity.MaxLines+1), 413},
		"9 MiB":        {strings.Repeat(line[:len(line)-1]+strings.Repeat(" ", 3000)+"\n", 3100), 413},
		"nothing":      {"", 400},
		"a line end":   {"\n", 400},
	} {
		w.reply(w.post(lines, w.token(ann), c.body), c.status)
		if n := len(w.recorded()); n != 0 {
			t.Fatalf("%s: %d events in the log", name, n)
		}
	}
}

func TestALineThatIsTooLongIsRefusedAlone(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	line := fmt.Sprintf("{\"type\":\"visit\",\"target\":%q}", bob)
	fits := line + strings.Repeat(" ", activity.MaxLineBytes-len(line))
	got := w.replies(w.post(lines, w.token(ann), fits+"\n"+fits+" \n"+line))
	if got[0].Status != 201 || got[1].Status != 413 || got[2].Status != 201 {
		t.Errorf("%+v", got)
	}
}

func TestACallerHasFewBatchesUnderWay(t *testing.T) {
	w := newWorld(t).run()
	ann, bob := w.newUser(), w.newUser()
	bearer := w.token(ann)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	body := &slowBody{begun: make(chan struct{}, 2), ctx: ctx}
	done := make(chan struct{}, 2)
	for range 2 {
		go func() {
			defer func() { done <- struct{}{} }()
			r, err := http.NewRequestWithContext(ctx, http.MethodPost, lines, body)
			if err != nil {
				t.Error(err)
				return
			}
			r.Header.Set("Content-Type", "application/x-ndjson")
			r.Header.Set("Authorization", "Bearer "+bearer)
			w.handler.ServeHTTP(discard{}, r)
		}()
		<-body.begun
	}
	rec := w.post(lines, bearer, visits(bob, 1))
	w.reply(rec, http.StatusServiceUnavailable)
	if rec.Header().Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	// Another caller has room.
	if got := w.replies(w.post(lines, w.token(bob), visits(ann, 1))); got[0].Status != 201 {
		t.Errorf("%+v", got)
	}
	cancel()
	<-done
	<-done
	if got := w.replies(w.post(lines, bearer, visits(bob, 1))); got[0].Status != 201 {
		t.Errorf("%+v", got)
	}
}

// slowBody says when it is first read, and then nothing until ctx ends.
type slowBody struct {
	begun chan struct{}
	ctx   context.Context
}

func (b *slowBody) Read([]byte) (int, error) {
	b.begun <- struct{}{}
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

type discard struct{}

func (discard) Header() http.Header         { return make(http.Header) }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

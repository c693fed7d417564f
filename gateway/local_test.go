package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/web"
)

// A service in this process that hangs, whatever it is told, takes its own room and
// nobody else's.
func TestAServiceInProcessThatHangsTakesNothingFromTheOthers(t *testing.T) {
	stuck := newMember("stuck")
	h := newHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = stuck })
	gateway.RoomInProcess(h.gateway, 4)
	bearer := header("Authorization", h.bearer(uuid.New(), "moderator"))
	var held sync.WaitGroup
	for range 4 {
		held.Go(func() { h.do("GET", "/v1/me?wait", "", bearer) })
		<-stuck.in
	}
	for _, route := range []string{"GET /v1/me", "POST /v1/sessions", "DELETE /v1/me"} {
		method, path, _ := strings.Cut(route, " ")
		rec := h.do(method, path, "", bearer)
		h.wantProblem(rec, http.StatusServiceUnavailable)
		if rec.Header().Get("Retry-After") == "" {
			t.Errorf("%s: there is no Retry-After", route)
		}
	}
	for range 10 { // each gives its room back
		for _, route := range []string{"POST /v1/activities", "GET /v1/moderation/flags", "GET /v1/me/stats", "GET /v1/logs"} {
			method, path, _ := strings.Cut(route, " ")
			want := http.StatusOK
			if path == "/v1/logs" {
				want = http.StatusForbidden
			}
			if rec := h.do(method, path, "{}", bearer); rec.Code != want {
				t.Errorf("%s: got %d, want %d: %s", route, rec.Code, want, rec.Body)
			}
		}
	}
	// What is composed goes without it.
	h.projections.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"items":[]}`) }
	if rec := h.do("GET", "/v1/me/home", "", bearer); rec.Code != http.StatusOK || !strings.Contains(rec.Header().Get("Meet5-Partial"), "user") {
		t.Errorf("home: got %d %v: %s", rec.Code, rec.Header(), rec.Body)
	}
	close(stuck.wait)
	held.Wait()
	if rec := h.do("GET", "/v1/me", "", bearer); rec.Code != http.StatusOK {
		t.Errorf("afterwards: %d", rec.Code)
	}
}

// A service in this process is told how much time there is, as one elsewhere is; an
// answer that may go on for hours has no end.
func TestAServiceInProcessHasTheTimeOfItsRoute(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	bearer := header("Authorization", h.bearer(uuid.New(), "analyst"))
	for route, most := range map[string]time.Duration{
		"GET /v1/me": 8 * time.Second, "POST /v1/sessions": 8 * time.Second, "PATCH /v1/me": 10 * time.Second,
		"POST /v1/activities/batch": 30 * time.Second, "GET /v1/backtests": 15 * time.Second,
		"GET /v1/logs/activity/events": 0, "GET /v1/me/export": 0,
	} {
		var left time.Duration
		var ends bool
		answer := func(_ http.ResponseWriter, r *http.Request) {
			var until time.Time
			until, ends = r.Context().Deadline()
			left = time.Until(until)
		}
		for _, u := range []*upstream{h.user, h.activity, h.fraud, h.projections} {
			u.answer = answer
		}
		method, path, _ := strings.Cut(route, " ")
		if rec := h.do(method, path, "", bearer); rec.Code != http.StatusOK {
			t.Errorf("%s: got %d", route, rec.Code)
		}
		if ends != (most > 0) || ends && (left <= 0 || left > most) {
			t.Errorf("%s: has %v (%t), want at most %v", route, left, ends, most)
		}
	}
}

// Who sends slowly has no room until all is there, and what comes is what was sent.
func TestASlowBodyTakesNoRoomInProcess(t *testing.T) {
	h := newHouse(t, gateway.Config{MaxInFlight: 8})
	var got string
	h.user.answer = func(_ http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(b)) {
			t.Errorf("%d bytes of %d came: %v", len(b), r.ContentLength, err)
		}
		got = string(b)
	}
	bearer := header("Authorization", h.bearer(uuid.New()))
	var slow sync.WaitGroup
	var rest []*io.PipeWriter
	for range 20 {
		body, w := io.Pipe()
		rest = append(rest, w)
		slow.Go(func() {
			h.do("POST", "/v1/sessions", "", func(r *http.Request) { r.Body, r.ContentLength = body, -1 })
		})
		_, _ = io.WriteString(w, "{") // it is being read
	}
	for range 20 {
		if rec := h.do("GET", "/v1/me/stats", "", bearer); rec.Code != http.StatusOK {
			t.Fatalf("meanwhile: %d %s", rec.Code, rec.Body)
		}
	}
	if n := len(h.user.requests()); n > 0 {
		t.Errorf("%d requests have begun", n)
	}
	for _, w := range rest[1:] {
		_ = w.CloseWithError(io.ErrUnexpectedEOF)
	}
	_, _ = io.WriteString(rest[0], "}")
	_ = rest[0].Close()
	slow.Wait()
	if n := len(h.user.requests()); n != 1 || got != "{}" {
		t.Errorf("%d requests came, with %q", n, got)
	}
	// One that is long begins at once, and may be as long as its route allows.
	long := strings.Repeat("x", web.DefaultBodyLimit+10)
	h.activity.answer = func(_ http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got = string(b)
	}
	if h.do("POST", "/v1/activities/batch", long, bearer); got != long {
		t.Errorf("%d bytes came", len(got))
	}
}

package user_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// export is one's own data, a line each.
func (w *world) export(access string) (lines []map[string]any) {
	w.Helper()
	req := httptest.NewRequest("GET", "/v1/me/export", nil)
	req.Header.Set("Authorization", "Bearer "+access)
	rec := httptest.NewRecorder()
	w.service.Handler().ServeHTTP(rec, req)
	equal(w, "status", rec.Code, http.StatusOK)
	equal(w, "Content-Type", rec.Header().Get("Content-Type"), "application/x-ndjson")
	equal(w, "Content-Disposition", rec.Header().Get("Content-Disposition"), `attachment; filename="meet5-export.ndjson"`)
	for line := range bytes.Lines(rec.Body.Bytes()) {
		var v map[string]any
		w.must(json.Unmarshal(line, &v))
		lines = append(lines, v)
	}
	return lines
}

// act appends what somebody did to the activity log.
func (w *world) act(eventType string, actor, target uuid.UUID) {
	w.Helper()
	_, err := w.acts.Append(w.Context(), events.Event{ID: uuid.New(), Type: eventType, Stream: actor, OccurredAt: w.clock.Now(),
		Data: events.Activity{Target: target, JoinedAt: w.clock.Now()}.AppendJSON(nil)})
	w.must(err)
}

func TestAnExportHoldsWhatIsKeptOfItsOwnerAndNothingOfOthers(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	anna, bob := w.register("anna"), w.register("bob")
	mine := w.signIn("anna", goodPassword)
	w.want(http.StatusOK, w.patch(mine.access, `"1"`, `{"city":"Bonn"}`))
	w.want(http.StatusOK, w.setRoles(admin, anna, "analyst"))
	flag := uuid.New()
	w.decide(events.FlagConfirmed, flag, anna)
	w.eventually("she is marked", func() bool { return w.status(mine.access) == "fraudulent" })
	for range 3 {
		w.act(events.ProfileVisited, anna, bob)
		w.act(events.ProfileVisited, bob, anna)
	}
	w.act(events.ProfileLiked, anna, bob)
	w.act(events.LikeWithdrawn, anna, bob)

	lines := w.export(mine.access)
	var kinds []string
	for _, l := range lines {
		kinds = append(kinds, l["kind"].(string))
	}
	equal(t, "kinds", kinds, []string{"account", "change", "change", "change", "change", "session",
		"activity", "activity", "activity", "activity", "activity", "end"})
	equal(t, "e-mail", lines[0]["email"], any("anna@example.org"))
	equal(t, "city at first", lines[1]["profile"].(map[string]any)["city"], any("Berlin"))
	equal(t, "city then", lines[2]["profile"].(map[string]any)["city"], any("Bonn"))
	equal(t, "roles", lines[3]["roles"], any([]any{"analyst"}))
	equal(t, "flag", lines[4]["flag"], any(flag.String()))
	equal(t, "session", lines[5]["current"], any(true))
	equal(t, "what she did", []any{lines[6]["type"], lines[9]["type"], lines[10]["type"]}, []any{"visit", "like", "unlike"})
	equal(t, "to whom", lines[6]["target"], any(bob.String()))
	equal(t, "lines", lines[11]["lines"], any(11.0))
	whole := fmt.Sprint(lines)
	for _, secret := range []string{"argon2", "bob@example.org", mine.refresh, `"token"`} {
		if strings.Contains(whole, secret) {
			t.Errorf("the export holds %q", secret)
		}
	}

	w.want(http.StatusUnauthorized, w.call(request{method: "GET", path: "/v1/me/export"}))
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: mine.access}))
	w.want(http.StatusNotFound, w.call(request{method: "GET", path: "/v1/me/export", bearer: mine.access}))
}

// slow is a client that does not read on.
type slow struct {
	*httptest.ResponseRecorder
	asked, read chan struct{}
}

func (s *slow) Write(b []byte) (int, error) {
	select {
	case s.asked <- struct{}{}:
	default:
	}
	<-s.read
	return s.ResponseRecorder.Write(b)
}

func TestNobodyHasTwoExportsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.register("bob")
	bob := w.signIn("bob", goodPassword)
	read := make(chan struct{})
	var running sync.WaitGroup
	for _, name := range []string{"anna", "anne", "anja", "annabel"} {
		w.register(name)
		access := w.signIn(name, goodPassword).access
		client := &slow{httptest.NewRecorder(), make(chan struct{}, 1), read}
		running.Go(func() {
			req := httptest.NewRequest("GET", "/v1/me/export", nil)
			req.Header.Set("Authorization", "Bearer "+access)
			w.service.Handler().ServeHTTP(client, req)
		})
		<-client.asked
		r := w.want(http.StatusTooManyRequests, w.call(request{method: "GET", path: "/v1/me/export", bearer: access}))
		equal(t, "Retry-After", r.header.Get("Retry-After"), "10")
		if name == "anna" {
			w.export(bob.access)
		}
	}
	w.want(http.StatusServiceUnavailable, w.call(request{method: "GET", path: "/v1/me/export", bearer: bob.access}))
	close(read)
	running.Wait()
	w.export(bob.access)
}

func TestTheEmailOfAnErasedAccountIsFreeAtOnceAndItsHandleLater(t *testing.T) {
	w := newWorld(t)
	take := func(handle, email string) response {
		return w.call(request{method: "POST", path: "/v1/users", body: registration(handle, map[string]any{"email": email})})
	}
	erase := func(login string) {
		w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: w.signIn(login, goodPassword).access}))
	}
	first := w.want(http.StatusCreated, take("anna", "anna@example.org")).text("id")
	erase("anna")
	r := w.want(http.StatusConflict, take("ANNA", "anna@example.org"))
	equal(t, "fields", r.fields(), []string{"handle"})
	second := w.want(http.StatusCreated, take("anne", "Anna@example.org")).text("id")
	equal(t, "who signs in with the e-mail", w.claims(w.signIn("anna@example.org", goodPassword).access).Subject.String(), second)
	r = w.want(http.StatusConflict, take("other", "anna@example.org"))
	equal(t, "fields", r.fields(), []string{"email"})

	w.clock.advance(90*24*time.Hour - time.Second)
	w.want(http.StatusConflict, take("anna", "third@example.org"))
	w.clock.advance(time.Second)
	third := w.want(http.StatusCreated, take("anna", "third@example.org")).text("id")
	equal(t, "who signs in with the handle", w.claims(w.signIn("anna", goodPassword).access).Subject.String(), third)
	w.want(http.StatusConflict, take("anna", "fourth@example.org"))

	// Nobody can tell from the log that two had the same name.
	seen := make(map[string]bool)
	for _, id := range []string{first, second, third} {
		for _, claim := range w.stream(uuid.MustParse(id))[0].Claims {
			if seen[claim] {
				t.Errorf("the claim %s is held twice", claim)
			}
			seen[claim] = true
		}
	}
	// And it goes on.
	for i := range 3 {
		erase("anne")
		w.clock.advance(90 * 24 * time.Hour)
		w.want(http.StatusCreated, take("anne", fmt.Sprintf("anna%d@example.org", i)))
	}
}

func TestOfManyWhoWantAFreedNameAtOnceExactlyOneGetsIt(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
	w.clock.advance(90 * 24 * time.Hour)
	answers := make(chan int, 8)
	for range cap(answers) {
		go func() {
			req := httptest.NewRequest("POST", "/v1/users", strings.NewReader(registration("Anna", nil)))
			req.Header.Set("Content-Type", "application/json")
			rec := httptest.NewRecorder()
			w.service.Handler().ServeHTTP(rec, req)
			answers <- rec.Code
		}()
	}
	count := make(map[int]int)
	for range cap(answers) {
		count[<-answers]++
	}
	equal(t, "answers", count, map[int]int{http.StatusCreated: 1, http.StatusConflict: cap(answers) - 1})
}

package gateway_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
)

type homeBody struct {
	Account       *struct{ Handle string }
	Stats         *struct{ Matches int }
	Visitors      *homeList
	LikesReceived *homeList `json:"likes_received"`
	Matches       *homeList
	Missing       []string
}

type homeList struct {
	Items []struct {
		User struct {
			ID          string
			Handle      *string
			DisplayName *string `json:"display_name"`
		}
		Count int
	}
	Next string
}

// homeHouse answers every part of home.
func homeHouse(t *testing.T) *house {
	h := newHouse(t, gateway.Config{})
	h.user.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/internal/users/cards" {
			answers(200, `{"items":[{"id":"`+annID+`","handle":"ann","display_name":"Ann"}]}`)(w, r)
			return
		}
		answers(200, `{"id":"`+someID+`","handle":"me"}`)(w, r)
	}
	h.projections.answer = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/stats") {
			answers(200, `{"matches":7}`)(w, r)
			return
		}
		answers(200, listOfTwo)(w, r)
	}
	return h
}

// butAt answers at a path of a service in another way.
func (u *upstream) butAt(path string, answer http.HandlerFunc) {
	others := u.answer
	u.answer = func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == path {
			answer(w, r)
			return
		}
		others(w, r)
	}
}

func (h *house) readHome() (*httptest.ResponseRecorder, homeBody) {
	h.t.Helper()
	rec := h.do("GET", "/v1/me/home", "", header("Authorization", h.bearer(uuid.New())), header("X-Request-Id", "trace-1"))
	var b homeBody
	if err := json.Unmarshal(rec.Body.Bytes(), &b); err != nil {
		h.t.Fatalf("%d %v: %s", rec.Code, err, rec.Body)
	}
	return rec, b
}

func TestHomeIsComposedOfTwoServices(t *testing.T) {
	h := homeHouse(t)
	question := ""
	cards := h.user.answer
	h.user.butAt("/internal/users/cards", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		question += string(b)
		cards(w, r)
	})
	rec, b := h.readHome()
	if rec.Code != 200 || b.Account == nil || b.Account.Handle != "me" || b.Stats == nil || b.Stats.Matches != 7 ||
		b.Missing == nil || len(b.Missing) > 0 || rec.Header().Get("Meet5-Partial") != "" || rec.Header().Get("Cache-Control") != "no-store" {
		t.Fatalf("got %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	for name, l := range map[string]*homeList{"visitors": b.Visitors, "likes_received": b.LikesReceived, "matches": b.Matches} {
		if l == nil || len(l.Items) != 2 || l.Next != "abc" || l.Items[0].User.Handle == nil || *l.Items[0].User.Handle != "ann" ||
			l.Items[0].Count != 3 || l.Items[1].User.ID != goneID || l.Items[1].User.Handle != nil {
			t.Errorf("%s: %+v", name, l)
		}
	}
	// The users of all lists are named with one question.
	if question != `{"ids":["`+annID+`","`+goneID+`"]}` {
		t.Errorf("asked for the names with %s", question)
	}
	for _, r := range slices.Concat(h.projections.requests(), h.user.requests()) {
		if r.Header.Get("Authorization") == "" || r.Header.Get("X-Request-Id") != "trace-1" {
			t.Errorf("%s was asked with %v", r.URL, r.Header)
		}
	}
}

func TestHomeComesWithoutThePartThatIsIll(t *testing.T) {
	hangs := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); panic(http.ErrAbortHandler) }
	for name, test := range map[string]struct {
		spoil   func(*house)
		missing string
		partial string
	}{
		"the account is refused": {func(h *house) { h.user.butAt("/v1/me", fails) }, "account", "user"},
		"the account hangs":      {func(h *house) { h.user.butAt("/v1/me", hangs) }, "account", "user"},
		"the account is rubbish": {func(h *house) { h.user.butAt("/v1/me", answers(200, `{"id":`)) }, "account", "user"},
		"the numbers fail":       {func(h *house) { h.projections.butAt("/v1/me/stats", fails) }, "stats", "projections"},
		"the numbers hang":       {func(h *house) { h.projections.butAt("/v1/me/stats", hangs) }, "stats", "projections"},
		"the visitors fail":      {func(h *house) { h.projections.butAt("/v1/me/visitors", fails) }, "visitors", "projections"},
		"the visitors are no list": {func(h *house) { h.projections.butAt("/v1/me/visitors", answers(200, `{"items":[{"user":7}]}`)) },
			"visitors", "projections"},
		"the likes crash": {func(h *house) {
			h.projections.butAt("/v1/me/likes/received", func(http.ResponseWriter, *http.Request) { panic("boom") })
		}, "likes_received", "projections"},
		"the matches fail":     {func(h *house) { h.projections.butAt("/v1/me/matches", fails) }, "matches", "projections"},
		"the names fail":       {func(h *house) { h.user.butAt("/internal/users/cards", fails) }, "names", "user"},
		"the names hang":       {func(h *house) { h.user.butAt("/internal/users/cards", hangs) }, "names", "user"},
		"projections is gone":  {func(h *house) { h.projections.answer = fails }, "stats,visitors,likes_received,matches", "projections"},
		"the user service is":  {func(h *house) { h.user.answer = fails }, "account,names", "user"},
		"a part of each fails": {func(h *house) { h.user.butAt("/v1/me", fails); h.projections.butAt("/v1/me/stats", fails) }, "account,stats", "projections, user"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := homeHouse(t)
			test.spoil(h)
			rec, b := h.readHome()
			if rec.Code != 200 || strings.Join(b.Missing, ",") != test.missing || rec.Header().Get("Meet5-Partial") != test.partial {
				t.Errorf("got %d %q, missing %v: %s", rec.Code, rec.Header().Get("Meet5-Partial"), b.Missing, rec.Body)
			}
			for part, there := range map[string]bool{
				"account": b.Account != nil, "stats": b.Stats != nil, "visitors": b.Visitors != nil,
				"likes_received": b.LikesReceived != nil, "matches": b.Matches != nil,
			} {
				if there == slices.Contains(b.Missing, part) {
					t.Errorf("%s is there: %t", part, there)
				}
			}
			if named := b.Matches != nil && b.Matches.Items[0].User.Handle != nil; b.Matches != nil && named == slices.Contains(b.Missing, "names") {
				t.Errorf("users are named: %t", named)
			}
		})
	}
	t.Run("everything", func(t *testing.T) {
		h := homeHouse(t)
		h.user.answer, h.projections.answer = fails, fails
		rec := h.do("GET", "/v1/me/home", "", header("Authorization", h.bearer(uuid.New())))
		h.wantProblem(rec, http.StatusServiceUnavailable)
		if rec.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
	t.Run("the account is erased", func(t *testing.T) {
		h := homeHouse(t)
		h.user.butAt("/v1/me", answers(404, `{"status":404}`))
		if rec := h.do("GET", "/v1/me/home", "", header("Authorization", h.bearer(uuid.New()))); rec.Code != 404 {
			t.Errorf("got %d %s", rec.Code, rec.Body)
		}
	})
}

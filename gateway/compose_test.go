package gateway_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/problem"
)

// answers makes an answer of JSON.
func answers(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func fails(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, problem.Unavailable("down", 1))
}

const (
	annID  = "018f3c5e-7b1a-7c3d-9e2f-0a1b2c3d4e5f"
	goneID = "018f3c5e-7b1a-7c3d-9e2f-0a1b2c3d4e60"
)

// listOfTwo has fields that the gateway does not know, and an order.
const listOfTwo = `{"items":[{"user":{"id":"` + annID + `"},"count":3,"last_at":"2026-11-21T12:00:00.000000Z","new":[1]},{"at":"x","user":{"id":"` + goneID + `"}}],"next":"abc","total":9007199254740993}`

func TestAListIsDecoratedWithNamesInOneQuestion(t *testing.T) {
	for _, path := range []string{"visitors", "visits", "likes/received", "likes/given", "matches"} {
		t.Run(path, func(t *testing.T) {
			h := newHouse(t, gateway.Config{})
			h.projections.answer = func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Link", `</v1/me/x?cursor=abc>; rel="next"`)
				answers(200, listOfTwo)(w, r)
			}
			var question string
			h.user.answer = func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				question = r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + string(b)
				answers(200, `{"items":[{"id":"`+annID+`","handle":"ann","display_name":"Ann \"A\""}]}`)(w, r)
			}
			bearer := h.bearer(uuid.New())
			rec := h.do("GET", "/v1/me/"+path+"?limit=2", "", header("Authorization", bearer), header("X-Request-Id", "trace-1"),
				header("Accept-Encoding", "gzip"))
			const want = `{"items":[{"user":{"id":"` + annID + `","handle":"ann","display_name":"Ann \"A\""},"count":3,"last_at":"2026-11-21T12:00:00.000000Z","new":[1]},` +
				`{"at":"x","user":{"id":"` + goneID + `","handle":null,"display_name":null}}],"next":"abc","total":9007199254740993}`
			if rec.Code != 200 || rec.Body.String() != want {
				t.Errorf("got %d\n%s\nwant\n%s", rec.Code, rec.Body, want)
			}
			if rec.Header().Get("Link") != `</v1/me/x?cursor=abc>; rel="next"` || rec.Header().Get("Meet5-Partial") != "" ||
				rec.Header().Get("Content-Length") != fmt.Sprint(len(want)) {
				t.Errorf("headers %v", rec.Header())
			}
			if len(h.user.requests()) != 1 || question != `POST /internal/users/cards application/json {"ids":["`+annID+`","`+goneID+`"]}` {
				t.Errorf("asked %d times, last %s", len(h.user.requests()), question)
			}
			asked := h.user.requests()[0]
			if asked.Header.Get("Authorization") != bearer || asked.Header.Get("X-Request-Id") != "trace-1" {
				t.Errorf("asked with %v", asked.Header)
			}
			if list := h.projections.requests()[0]; list.Header.Get("Accept-Encoding") != "" || list.URL.RawQuery != "limit=2" {
				t.Errorf("asked for the list with %v %s", list.Header, list.URL)
			}
		})
	}
}

func TestAListComesWithoutNamesWhenTheUserServiceIsIll(t *testing.T) {
	for name, ill := range map[string]http.HandlerFunc{
		"a refusal":              fails,
		"an answer of rubbish":   answers(200, `{"items":`),
		"a connection that ends": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"a fault":                func(http.ResponseWriter, *http.Request) { panic("boom") },
		"an endless answer": func(w http.ResponseWriter, _ *http.Request) {
			for {
				if _, err := w.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		},
		"no answer in time": func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done(); panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t, gateway.Config{})
			h.projections.answer = answers(200, listOfTwo)
			h.user.answer = ill
			rec := h.do("GET", "/v1/me/visitors", "", header("Authorization", h.bearer(uuid.New())))
			if rec.Code != 200 || rec.Body.String() != listOfTwo || rec.Header().Get("Meet5-Partial") != "user" {
				t.Errorf("got %d %v %s", rec.Code, rec.Header(), rec.Body)
			}
		})
	}
}

func TestWhatIsNoListOfOursIsPassedOnAsItIs(t *testing.T) {
	long := `{"items":[],"pad":"` + strings.Repeat("x", 1<<20) + `"}`
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		code    int
		body    string
		partial string
	}{
		"a refusal":    {answers(422, `{"status":422}`), 422, `{"status":422}`, ""},
		"not modified": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, 304, "", ""},
		"another format": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/csv")
			_, _ = io.WriteString(w, "a,b")
		}, 200, "a,b", ""},
		"an empty page": {answers(200, `{"items":[]}`), 200, `{"items":[]}`, ""},
		"no list":       {answers(200, `{"status":"fine"}`), 200, `{"status":"fine"}`, "user"},
		"no JSON":       {answers(200, `{"items":`), 200, `{"items":`, "user"},
		"too long":      {answers(200, long), 200, long, "user"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, gateway.Config{})
			h.projections.answer = test.answer
			rec := h.do("GET", "/v1/me/matches", "", header("Authorization", h.bearer(uuid.New())))
			if rec.Code != test.code || rec.Body.String() != test.body || rec.Header().Get("Meet5-Partial") != test.partial {
				t.Errorf("got %d %v %.200s", rec.Code, rec.Header(), rec.Body)
			}
			if len(h.user.requests()) > 0 {
				t.Error("the user service was asked for nothing")
			}
		})
	}
}

type caseBody struct {
	Account, Status, Flags, Stats, Activities json.RawMessage
	Missing                                   []string
}

// caseHouse answers every part of a case.
func caseHouse(t *testing.T) *house {
	h := newHouse(t, gateway.Config{})
	h.user.answer = answers(200, `{"id":"`+annID+`","handle":"ann","status":"fraudulent"}`)
	h.fraud.answer = answers(200, `{"items":[{"id":"f1"}],"next":"more"}`)
	h.projections.answer = func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/stats") {
			answers(200, `{"matches":7}`)(w, r)
			return
		}
		answers(200, `{"items":[{"type":"visit"}]}`)(w, r)
	}
	return h
}

func (h *house) readCase() (int, caseBody) {
	h.t.Helper()
	rec := h.do("GET", "/v1/moderation/users/"+annID, "", header("Authorization", h.bearer(uuid.New(), "moderator")))
	var c caseBody
	if err := json.Unmarshal(rec.Body.Bytes(), &c); err != nil {
		h.t.Fatalf("%v: %s", err, rec.Body)
	}
	return rec.Code, c
}

func TestACaseIsComposedOfThreeServices(t *testing.T) {
	h := caseHouse(t)
	code, c := h.readCase()
	if code != 200 || string(c.Status) != `"fraudulent"` || !strings.Contains(string(c.Account), `"handle":"ann"`) ||
		string(c.Flags) != `[{"id":"f1"}]` || string(c.Stats) != `{"matches":7}` || string(c.Activities) != `[{"type":"visit"}]` ||
		c.Missing == nil || len(c.Missing) != 0 {
		t.Errorf("got %d %s", code, c)
	}
	for path, u := range map[string]*upstream{"": h.user, "/flags": h.fraud} {
		if got := u.requests()[0].URL.Path; got != "/internal/users/"+annID+path {
			t.Errorf("%s was asked for %s", u.name, got)
		}
	}
}

func TestACaseNamesWhatIsMissing(t *testing.T) {
	for name, ill := range map[string]func(*house) *upstream{
		"account":          func(h *house) *upstream { return h.user },
		"flags":            func(h *house) *upstream { return h.fraud },
		"stats,activities": func(h *house) *upstream { return h.projections },
	} {
		t.Run(name, func(t *testing.T) {
			h := caseHouse(t)
			ill(h).answer = fails
			code, c := h.readCase()
			if code != 200 || strings.Join(c.Missing, ",") != name {
				t.Errorf("got %d, missing %v", code, c.Missing)
			}
			parts := map[string]json.RawMessage{"account": c.Account, "flags": c.Flags, "stats": c.Stats, "activities": c.Activities}
			for part, value := range parts {
				if missing := strings.Contains(name, part); missing != (string(value) == "null") {
					t.Errorf("%s is %s", part, value)
				}
			}
		})
	}
	t.Run("everything", func(t *testing.T) {
		h := caseHouse(t)
		h.user.answer, h.fraud.answer, h.projections.answer = fails, fails, fails
		rec := h.do("GET", "/v1/moderation/users/"+annID, "", header("Authorization", h.bearer(uuid.New(), "moderator")))
		h.wantProblem(rec, http.StatusServiceUnavailable)
		if rec.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	})
}

func TestThereIsNoCaseOfAnUnknownUser(t *testing.T) {
	h := caseHouse(t)
	h.user.answer = func(w http.ResponseWriter, r *http.Request) { problem.Write(w, r, problem.NotFound("no such user")) }
	h.wantProblem(h.do("GET", "/v1/moderation/users/"+annID, "", header("Authorization", h.bearer(uuid.New(), "moderator"))), http.StatusNotFound)
}

func TestSubscriptionsOfAllServicesAreListedTogether(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	h.user.answer = answers(200, `{"items":[{"group":"user-standing","lag":0}]}`)
	h.activity.answer = answers(200, `{"items":[]}`)
	h.fraud.answer = fails
	h.projections.answer = answers(200, `{"items":[{"group":"projections","lag":3}]}`)
	rec := h.do("GET", "/v1/admin/subscriptions", "", header("Authorization", h.bearer(uuid.New(), "admin")))
	const want = `{"items":[{"group":"projections","lag":3,"service":"projections"},{"group":"user-standing","lag":0,"service":"user"}],"missing":["fraud"]}`
	if rec.Code != 200 || rec.Body.String() != want {
		t.Errorf("got %d\n%s\nwant\n%s", rec.Code, rec.Body, want)
	}
	if asked := h.projections.requests(); len(asked) != 1 || asked[0].URL.Path != "/v1/admin/projections/subscriptions" {
		t.Errorf("projections was asked %v", asked)
	}
	h.user.answer, h.activity.answer, h.projections.answer = fails, fails, fails
	if rec := h.do("GET", "/v1/admin/subscriptions", "", header("Authorization", h.bearer(uuid.New(), "admin"))); rec.Code != 503 {
		t.Errorf("when none answers: %d %s", rec.Code, rec.Body)
	}
}

func TestOperationsGoToTheServiceThatThePathNames(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	admin := header("Authorization", h.bearer(uuid.New(), "admin"))
	for _, one := range []struct{ method, path string }{
		{"GET", "/parked?limit=3"}, {"GET", "/parked/views.activity.0.7"}, {"POST", "/parked/views.activity.0.7/retry"},
		{"POST", "/parked/views.activity.0.7/drop"}, {"GET", "/subscriptions"},
	} {
		for _, service := range []string{"activity", "fraud", "projections", "user"} {
			path := "/v1/admin/" + service + one.path
			if rec := h.do(one.method, path, "", admin); rec.Body.String() != service+" "+one.method+" "+path {
				t.Errorf("%s %s: %d %s", one.method, path, rec.Code, rec.Body)
			}
		}
		if rec := h.do(one.method, "/v1/admin/gateway"+one.path, "", admin); rec.Code != 404 {
			t.Errorf("%s of a service that is none: %d", one.path, rec.Code)
		}
		if rec := h.do(one.method, "/v1/admin/user"+one.path, "", header("Authorization", h.bearer(uuid.New(), "moderator"))); rec.Code != 403 {
			t.Errorf("%s as a moderator: %d", one.path, rec.Code)
		}
	}
}

package gateway_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
)

const someID = "018f3c5e-7b1a-7c3d-9e2f-0a1b2c3d4e5f"

func TestEachRouteLeadsToItsService(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	for route, service := range map[string]string{
		"GET /.well-known/jwks.json":                        "user",
		"GET /.well-known/openid-configuration":             "user",
		"GET /v1/admin/keys":                                "user",
		"POST /v1/admin/keys/rotate":                        "user",
		"POST /v1/users":                                    "user",
		"DELETE /v1/sessions":                               "user",
		"POST /v1/sessions/oidc":                            "user",
		"GET /v1/me/export":                                 "user",
		"GET /v1/me/sessions":                               "user",
		"DELETE /v1/me/sessions/" + someID:                  "user",
		"POST /v1/me/password":                              "user",
		"POST /v1/sessions":                                 "user",
		"POST /v1/sessions/refresh":                         "user",
		"DELETE /v1/sessions/current":                       "user",
		"GET /v1/me":                                        "user",
		"PATCH /v1/me":                                      "user",
		"DELETE /v1/me":                                     "user",
		"GET /v1/users/" + someID:                           "user",
		"POST /v1/admin/users/" + someID + "/roles":         "user",
		"POST /v1/activities":                               "activity",
		"POST /v1/activities/batch":                         "activity",
		"GET /v1/me/visitors?limit=3":                       "projections",
		"GET /v1/me/visits":                                 "projections",
		"GET /v1/me/likes/received":                         "projections",
		"GET /v1/me/likes/given":                            "projections",
		"GET /v1/me/matches":                                "projections",
		"GET /v1/me/stats":                                  "projections",
		"GET /v1/me/events":                                 "projections",
		"GET /v1/logs":                                      "projections",
		"GET /v1/logs/activity/events?limit=2":              "projections",
		"POST /v1/moderation/bulk":                          "fraud",
		"GET /v1/moderation/bulk?limit=2":                   "fraud",
		"GET /v1/moderation/bulk/" + someID:                 "fraud",
		"POST /v1/moderation/bulk/" + someID + "/undo":      "fraud",
		"GET /v1/moderation/flags?state=open":               "fraud",
		"GET /v1/moderation/flags/" + someID:                "fraud",
		"POST /v1/moderation/flags/" + someID + "/decision": "fraud",
		"POST /v1/moderation/flags/" + someID + "/assignee": "fraud",
		"POST /v1/moderation/flags/" + someID + "/notes":    "fraud",
		"POST /v1/moderation/flags/next":                    "fraud",
		"GET /v1/me/appeals":                                "fraud",
		"POST /v1/me/appeals":                               "fraud",
		"POST /v1/backtests":                                "fraud",
		"GET /v1/backtests?limit=2":                         "fraud",
		"GET /v1/backtests/" + someID:                       "fraud",
		"DELETE /v1/backtests/" + someID:                    "fraud",
		"GET /v1/moderation/rules":                          "fraud",
		"GET /v1/moderation/rules/meet5-first-minutes":      "fraud",
		"PUT /v1/moderation/rules/like-storm?why=x":         "fraud",
		"POST /v1/moderation/rules/like-storm/mode":         "fraud",
		"GET /v1/moderation/rules/like-storm/versions":      "fraud",
		"GET /v1/moderation/rules/like-storm/diff?from=1":   "fraud",
		"GET /v1/moderation/rules/like-storm/hits":          "fraud",
		"GET /v1/moderation/rules/schema.json":              "fraud",
		"POST /v1/moderation/rules/validate":                "fraud",
	} {
		t.Run(route, func(t *testing.T) {
			h.t = t
			method, target, _ := strings.Cut(route, " ")
			rec := h.do(method, target, "", header("Authorization", h.bearer(uuid.New(), "moderator", "analyst", "admin")))
			if want := service + " " + route; rec.Code != http.StatusOK || rec.Body.String() != want {
				t.Errorf("got %d %q, want %q", rec.Code, rec.Body, want)
			}
		})
	}
}

func TestUnknownPathsAndSpellingsAreNotFound(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	for name, target := range map[string]string{
		"unknown":                    "/v1/nothing",
		"the root":                   "/",
		"a slash at the end":         "/v1/me/",
		"an empty segment in front":  "//v1/me",
		"an empty segment":           "/v1//me",
		"an empty name":              "/v1/users/",
		"a dot segment":              "/v1/users/.",
		"dot segments":               "/v1/users/../me",
		"dot segments for a name":    "/v1/users/..",
		"encoded dots":               "/v1/users/%2e%2e",
		"an encoded slash":           "/v1/users/%2finternal",
		"an encoded slash in front":  "/%2finternal/users/cards",
		"an encoded letter":          "/v1/%6de",
		"an encoded blank":           "/v1/users/a%20b",
		"an encoded zero":            "/v1/users/a%00b",
		"a twice encoded slash":      "/v1/users/%252finternal",
		"a semicolon":                "/v1/users/a;b",
		"a backslash":                `/v1/users/..%5c..%5cinternal`,
		"another case":               "/V1/me",
		"a name too long":            "/v1/users/" + strings.Repeat("a", 129),
		"one segment more":           "/v1/users/a/b",
		"internal cards":             "/internal/users/cards",
		"internal case":              "/internal/users/" + someID,
		"internal behind a route":    "/v1/me/../../internal/users/cards",
		"internal as a log":          "/v1/logs/..%2f..%2finternal/events",
		"internal with an empty one": "//internal/users/cards",
		"internal with encoded dots": "/v1/%2e%2e/internal/users/cards",
		"internal, encoded":          "/%69nternal/users/cards",
		"internal, absolute form":    "http://elsewhere/internal/users/cards",
		"a service's own health":     "/v1/readyz",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost} {
			t.Run(name+" "+method, func(t *testing.T) {
				h.t = t
				rec := h.do(method, target, "", header("Authorization", h.bearer(uuid.New(), "moderator", "analyst", "admin")))
				h.wantProblem(rec, http.StatusNotFound)
				h.nobodyAsked()
			})
		}
	}
}

func TestAnotherMethodIsRefusedWithThoseAllowed(t *testing.T) {
	for target, test := range map[string]struct{ method, allow string }{
		"/v1/me":                           {http.MethodPut, "DELETE, GET, PATCH"},
		"/v1/activities":                   {http.MethodGet, "POST"},
		"/v1/users/" + someID:              {http.MethodDelete, "GET"},
		"/v1/moderation/flags/next":        {http.MethodGet, "POST"},
		"/livez":                           {http.MethodPost, "GET"},
		"/v1/moderation/rules/some-rule-1": {"BREW", "GET, PUT"},
	} {
		h := newHouse(t, gateway.Config{})
		rec := h.do(test.method, target, "")
		h.wantProblem(rec, http.StatusMethodNotAllowed)
		if got := rec.Header().Get("Allow"); got != test.allow {
			t.Errorf("%s: Allow is %q, want %q", target, got, test.allow)
		}
		h.nobodyAsked()
	}
}

func TestABodyOverTheRoutesLimitIsRefusedAtTheDoor(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	bearer := header("Authorization", h.bearer(uuid.New()))
	h.wantProblem(h.do("POST", "/v1/activities", strings.Repeat("x", 64<<10+1), bearer), http.StatusRequestEntityTooLarge)
	h.wantProblem(h.do("POST", "/v1/activities/batch", strings.Repeat("x", 8<<20+1<<10+1), bearer), http.StatusRequestEntityTooLarge)
	h.nobodyAsked()
	if rec := h.do("POST", "/v1/activities", strings.Repeat("x", 64<<10), bearer); rec.Code != http.StatusOK {
		t.Errorf("a body of the limit: %d", rec.Code)
	}
	if rec := h.do("POST", "/v1/activities/batch", strings.Repeat("x", 8<<20), bearer); rec.Code != http.StatusOK {
		t.Errorf("a batch of the limit: %d", rec.Code)
	}
}

func TestTheOwnPagesAreServed(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	for target, want := range map[string]string{
		"/livez":        `{"status":"alive"}`,
		"/readyz":       `"status":"ready"`,
		"/openapi.json": `{"openapi":"3.1.0",`,
		"/docs":         "<!doctype html>",
	} {
		rec := h.do("GET", target, "")
		if rec.Code != http.StatusOK || !strings.Contains(rec.Body.String(), want) {
			t.Errorf("%s: %d %.80s", target, rec.Code, rec.Body)
		}
		if tag := rec.Header().Get("ETag"); tag != "" {
			if again := h.do("GET", target, "", header("If-None-Match", tag)); again.Code != http.StatusNotModified || again.Body.Len() > 0 {
				t.Errorf("%s, known: %d", target, again.Code)
			}
		}
	}
	if rec := h.do("GET", "/docs", ""); !strings.Contains(rec.Header().Get("Content-Security-Policy"), "default-src 'none'") {
		t.Error("the documentation could load something")
	}
	h.wantProblem(h.do("GET", "/metrics", ""), http.StatusNotFound)
}

func TestAGatewayLacksNothingSilently(t *testing.T) {
	_, err := gateway.New(gateway.Config{}, gateway.Deps{Upstreams: gateway.Upstreams{User: http.NotFoundHandler()}})
	if err == nil {
		t.Fatal("no error")
	}
	for _, missing := range []string{"verifier", "activity", "fraud", "projections"} {
		if !strings.Contains(err.Error(), missing) {
			t.Errorf("the error does not name %s: %v", missing, err)
		}
	}
	if strings.Contains(err.Error(), "user") {
		t.Errorf("the error names what is given: %v", err)
	}
}

// A server between the test and the gateway changes nothing of all this.
func TestPathTricksDoNotGetThroughARealServer(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	server := httptest.NewServer(h.handler)
	defer server.Close()
	for _, path := range []string{"/v1/../internal/users/cards", "//internal/users/cards", "/v1/users/%2e%2e%2finternal"} {
		req, err := http.NewRequest(http.MethodPost, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.URL.Opaque = path
		req.Header.Set("Authorization", h.bearer(uuid.New()))
		res, err := server.Client().Transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	h.nobodyAsked()
}

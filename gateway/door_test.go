package gateway_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/token"
)

func TestWithoutAGoodTokenNothingPassesButThePublicRoutes(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	expired := h.bearer(uuid.New())
	h.clock.advance(13 * time.Hour)
	good := h.bearer(uuid.New())
	for name, authorization := range map[string]string{
		"none": "", "another scheme": "Basic dTpw", "no token": "Bearer ", "rubbish": "Bearer x.y.z",
		"expired": expired, "signature cut": good[:len(good)-6],
	} {
		for _, route := range []string{"POST /v1/activities", "GET /v1/me", "GET /v1/me/visitors", "GET /v1/logs", "GET /v1/moderation/users/" + someID} {
			method, target, _ := strings.Cut(route, " ")
			rec := h.do(method, target, "", header("Authorization", authorization))
			h.wantProblem(rec, http.StatusUnauthorized)
			if !strings.HasPrefix(rec.Header().Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s, %s: WWW-Authenticate is missing", name, route)
			}
		}
	}
	h.nobodyAsked()
	for _, route := range []string{"POST /v1/users", "POST /v1/sessions", "POST /v1/sessions/refresh", "GET /.well-known/jwks.json"} {
		method, target, _ := strings.Cut(route, " ")
		if rec := h.do(method, target, "", header("Authorization", "Bearer rubbish")); rec.Code != http.StatusOK {
			t.Errorf("%s: %d", route, rec.Code)
		}
	}
	if rec := h.do("GET", "/v1/me", "", header("Authorization", "bearer  "+strings.TrimPrefix(good, "Bearer "))); rec.Code != http.StatusOK {
		t.Errorf("the scheme in lower case: %d", rec.Code)
	}
}

func TestModeratorsAndAnalystsTryRules(t *testing.T) {
	for _, route := range []string{"GET /v1/backtests", "POST /v1/backtests", "GET /v1/backtests/" + someID, "DELETE /v1/backtests/" + someID} {
		h := newHouse(t, gateway.Config{})
		method, target, _ := strings.Cut(route, " ")
		for role, want := range map[string]int{
			"moderator": http.StatusOK, "analyst": http.StatusOK,
			"admin": http.StatusForbidden, "service": http.StatusForbidden, "moderator or analyst": http.StatusForbidden,
		} {
			if rec := h.do(method, target, "", header("Authorization", h.bearer(uuid.New(), role))); rec.Code != want {
				t.Errorf("%s as %s: %d, want %d", route, role, rec.Code, want)
			}
		}
	}
}

func TestARouteThatNeedsARoleRefusesOthers(t *testing.T) {
	for route, role := range map[string]string{
		"GET /v1/moderation/flags":                  "moderator",
		"GET /v1/moderation/users/" + someID:        "moderator",
		"POST /v1/moderation/flags/next":            "moderator",
		"POST /v1/moderation/bulk":                  "moderator",
		"GET /v1/logs":                              "analyst",
		"GET /v1/logs/user/events":                  "analyst",
		"POST /v1/admin/users/" + someID + "/roles": "admin",
	} {
		t.Run(route, func(t *testing.T) {
			h := newHouse(t, gateway.Config{})
			method, target, _ := strings.Cut(route, " ")
			h.wantProblem(h.do(method, target, "", header("Authorization", h.bearer(uuid.New()))), http.StatusForbidden)
			for _, other := range []string{"moderator", "analyst", "admin", "service", "member"} {
				if other != role {
					h.wantProblem(h.do(method, target, "", header("Authorization", h.bearer(uuid.New(), other))), http.StatusForbidden)
				}
			}
			h.nobodyAsked()
			h.do(method, target, "", header("Authorization", h.bearer(uuid.New(), role)))
			if len(h.user.requests())+len(h.fraud.requests())+len(h.projections.requests()) == 0 {
				t.Error("who has the role did not get through")
			}
		})
	}
}

type brokenKeys struct{}

func (brokenKeys) Key(context.Context, string) (ed25519.PublicKey, error) {
	return nil, errors.New("vault at 10.0.0.9 is gone")
}

func TestThatKeysCannotBeReadIsNotTheTokensFault(t *testing.T) {
	h := newHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Verifier = token.NewVerifier(brokenKeys{}, d.Clock) })
	rec := h.do("GET", "/v1/me", "", header("Authorization", h.bearer(uuid.New())))
	h.wantProblem(rec, http.StatusServiceUnavailable)
	if rec.Header().Get("Retry-After") == "" || strings.Contains(rec.Body.String(), "10.0.0.9") {
		t.Errorf("got %v %s", rec.Header(), rec.Body)
	}
}

func TestWhatClientsSayOfTheirIdentityReachesNoService(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	names := []string{"X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Anything", "X-Forwarded",
		"Forwarded", "X-Real-IP", "True-Client-IP", "X-Original-URL"}
	changes := []with{header("Authorization", h.bearer(uuid.New())), header("Accept-Language", "de")}
	for _, name := range names {
		changes = append(changes, header(name, "203.0.113.9"))
	}
	h.do("POST", "/v1/activities", "{}", changes...)
	got := h.activity.requests()[0]
	for _, name := range names {
		if v := got.Header.Values(name); len(v) > 0 {
			t.Errorf("%s: %v", name, v)
		}
	}
	if got.Header.Get("Accept-Language") != "de" || got.Header.Get("Authorization") == "" {
		t.Errorf("what is no identity was dropped: %v", got.Header)
	}
}

func TestARequestIDIsKeptOnlyIfItIsWellFormed(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	for name, test := range map[string]struct {
		given string
		kept  bool
	}{
		"a good one":     {"trace-1:a_b.c", true},
		"of 64 bytes":    {strings.Repeat("a", 64), true},
		"none":           {"", false},
		"too long":       {strings.Repeat("a", 65), false},
		"a blank":        {"a b", false},
		"a line break":   {"a\nlevel=error", false},
		"not ASCII":      {"ä", false},
		"a comma's list": {"a,b", false},
	} {
		var changes []with
		if test.given != "" {
			changes = append(changes, func(r *http.Request) { r.Header["X-Request-Id"] = []string{test.given} })
		}
		rec := h.do("POST", "/v1/sessions", "{}", changes...)
		seen := h.user.requests()
		got, passed := rec.Header().Get("X-Request-Id"), seen[len(seen)-1].Header.Get("X-Request-Id")
		if got != passed || got == "" || (got == test.given) != test.kept {
			t.Errorf("%s: answered %q, passed on %q", name, got, passed)
		}
	}
	if rec := h.do("GET", "/nowhere", "", header("X-Request-Id", "mine")); rec.Header().Get("X-Request-Id") != "mine" {
		t.Error("a refusal has another request ID")
	}
}

func TestBehindAProxyOfOursTheClientIsWhoItSaysAndNobodyElse(t *testing.T) {
	h := newHouse(t, gateway.Config{RateLimits: true, TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}})
	left := func(changes ...with) string {
		return h.do("POST", "/v1/sessions", "{}", changes...).Header().Get("RateLimit-Remaining")
	}
	steps := []struct {
		name      string
		seen      string // by a service in this process
		remaining string
		changes   []with
	}{
		{"a client behind the proxy", "198.51.100.1:0", "19", []with{from("10.0.0.1:1"), header("X-Forwarded-For", "198.51.100.1")}},
		{"the same through two proxies", "198.51.100.1:0", "18", []with{from("10.0.0.2:1"), header("X-Forwarded-For", "198.51.100.1, 10.0.0.1")}},
		{"the same with a forged hop in front", "198.51.100.1:0", "17", []with{from("10.0.0.1:1"), header("X-Forwarded-For", "203.0.113.1, 198.51.100.1")}},
		{"another client", "198.51.100.2:0", "19", []with{from("10.0.0.1:1"), header("X-Forwarded-For", "198.51.100.2")}},
		{"who is no proxy is not believed", "192.0.2.1:0", "19", []with{from("192.0.2.1:1"), header("X-Forwarded-For", "198.51.100.1")}},
		{"nor with another address", "192.0.2.1:0", "18", []with{from("192.0.2.1:1"), header("X-Forwarded-For", "198.51.100.3")}},
	}
	for _, s := range steps {
		if got := left(s.changes...); got != s.remaining {
			t.Errorf("%s: %s are left, want %s", s.name, got, s.remaining)
		}
		if seen := h.user.requests(); seen[len(seen)-1].RemoteAddr != s.seen {
			t.Errorf("%s: the service sees %s, want %s", s.name, seen[len(seen)-1].RemoteAddr, s.seen)
		}
	}
}

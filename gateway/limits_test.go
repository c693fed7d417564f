package gateway_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
)

func TestEachClassHasItsRateAndItsBurst(t *testing.T) {
	for name, test := range map[string]struct {
		route     string
		perSecond int
		burst     int
	}{
		"auth":       {"POST /v1/sessions", 5, 20},
		"batch":      {"POST /v1/activities/batch", 5, 10},
		"moderation": {"GET /v1/moderation/flags", 20, 60},
		"read":       {"GET /v1/me", 100, 200},
		"write":      {"POST /v1/activities", 50, 200},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t, gateway.Config{RateLimits: true})
			bearer := header("Authorization", h.bearer(uuid.New(), "moderator"))
			method, target, _ := strings.Cut(test.route, " ")
			for n := range test.burst {
				rec := h.do(method, target, "", bearer)
				if rec.Code != http.StatusOK || rec.Header().Get("RateLimit-Remaining") != strconv.Itoa(test.burst-n-1) {
					t.Fatalf("request %d: %d, %v", n, rec.Code, rec.Header())
				}
			}
			rec := h.do(method, target, "", bearer)
			h.wantProblem(rec, http.StatusTooManyRequests)
			for header, want := range map[string]string{
				"Retry-After": "1", "RateLimit-Limit": strconv.Itoa(test.burst), "RateLimit-Remaining": "0",
				"RateLimit-Reset": strconv.Itoa((test.burst + test.perSecond - 1) / test.perSecond),
			} {
				if got := rec.Header().Get(header); got != want {
					t.Errorf("%s is %q, want %q", header, got, want)
				}
			}
			// A refusal takes nothing: after one interval there is room for one.
			h.clock.advance(time.Second / time.Duration(test.perSecond))
			if rec := h.do(method, target, "", bearer); rec.Code != http.StatusOK {
				t.Errorf("after an interval: %d", rec.Code)
			}
			h.wantProblem(h.do(method, target, "", bearer), http.StatusTooManyRequests)
			h.clock.advance(time.Minute)
			for range test.burst {
				if rec := h.do(method, target, "", bearer); rec.Code != http.StatusOK {
					t.Fatalf("after a minute: %d", rec.Code)
				}
			}
			h.wantProblem(h.do(method, target, "", bearer), http.StatusTooManyRequests)
		})
	}
}

func TestUsersAndAddressesAndClassesDoNotShareARate(t *testing.T) {
	h := newHouse(t, gateway.Config{RateLimits: true})
	ann, bob := header("Authorization", h.bearer(uuid.New())), header("Authorization", h.bearer(uuid.New()))
	drain := func(method, target string, changes ...with) {
		for h.do(method, target, "", changes...).Code == http.StatusOK {
		}
	}
	drain("POST", "/v1/activities/batch", ann)
	for name, rec := range map[string]int{
		"another user":               h.do("POST", "/v1/activities/batch", "", bob).Code,
		"another class":              h.do("POST", "/v1/activities", "", ann).Code,
		"the same address, no token": h.do("POST", "/v1/sessions", "").Code,
	} {
		if rec != http.StatusOK {
			t.Errorf("%s: %d", name, rec)
		}
	}
	h.wantProblem(h.do("POST", "/v1/activities/batch", "", ann, from("198.51.100.4:1")), http.StatusTooManyRequests)

	drain("POST", "/v1/sessions", from("[2001:db8:1:2:3::1]:1"))
	h.wantProblem(h.do("POST", "/v1/users", "", from("[2001:db8:1:2:3::1]:2")), http.StatusTooManyRequests)
	h.wantProblem(h.do("POST", "/v1/sessions", "", from("[2001:db8:1:2:ffff::9]:1")), http.StatusTooManyRequests)
	if code := h.do("POST", "/v1/sessions", "", from("[2001:db8:1:3::1]:1")).Code; code != http.StatusOK {
		t.Errorf("another network: %d", code)
	}
	h.clock.advance(time.Hour)
	drain("POST", "/v1/sessions", from("192.0.2.7:1"))
	h.wantProblem(h.do("POST", "/v1/sessions", "", from("[::ffff:192.0.2.7]:1")), http.StatusTooManyRequests)
}

func TestHealthIsNotLimitedAndNothingIsWithoutLimits(t *testing.T) {
	limited, off := newHouse(t, gateway.Config{RateLimits: true}), newHouse(t, gateway.Config{})
	for n := range 300 {
		if rec := limited.do("GET", "/livez", ""); rec.Code != http.StatusOK || rec.Header().Get("RateLimit-Limit") != "" {
			t.Fatalf("request %d: %d %v", n, rec.Code, rec.Header())
		}
		if rec := off.do("POST", "/v1/sessions", ""); rec.Code != http.StatusOK || rec.Header().Get("RateLimit-Limit") != "" {
			t.Fatalf("request %d: %d %v", n, rec.Code, rec.Header())
		}
	}
}

func TestAFloodOfAddressesDoesNotFreeWhoIsOverTheRate(t *testing.T) {
	h := newHouse(t, gateway.Config{RateLimits: true})
	const flooder = "192.0.2.200:1"
	for h.do("POST", "/v1/sessions", "", from(flooder)).Code == http.StatusOK {
	}
	for n := range 20_000 {
		h.do("POST", "/v1/sessions", "", from(fmt.Sprintf("10.%d.%d.%d:1", n>>16, n>>8&255, n&255)))
	}
	h.wantProblem(h.do("POST", "/v1/sessions", "", from(flooder)), http.StatusTooManyRequests)
}

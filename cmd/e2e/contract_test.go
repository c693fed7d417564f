package e2e_test

import (
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meet5/backend/cmd/backend"
)

// TestTheDocumentDescribesEveryAnswer asks for every operation of the OpenAPI
// document, as it should be asked and in every wrong way that the document's own
// schemas suggest, and fails on any answer that the document does not describe:
// its status, its headers, its media type, its body.
func TestTheDocumentDescribesEveryAnswer(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		a := newAskerOf(t, where)
		a.askInvalid(a.askValid())
		a.everyStatus(func(status int) bool {
			// What comes of load and of faults, other tests have.
			return status != http.StatusTooManyRequests && status != http.StatusServiceUnavailable
		})
	})
}

// never are the answers that this test knows no way to: they take two who are
// quick at the same moment, another instance, a later build's data, metrics that
// are served elsewhere, a body that is cut off in the midst of a chunk, an account
// that was never there, closed registration, or a house without an issuer or an
// outside provider.
var never = []string{
	"cancelBacktest 409", "changeMe 409", "setRoles 409",
	"diffRule 409", "getRule 409", "putRule 409",
	"eraseMe 404", "getDiscovery 404", "getMetrics 404", "register 404", "signInOutside 404",
	"putRule 400", "validateRules 400",
}

// everyStatus fails the test unless every operation was answered with each status
// that the document names, of those that are wanted.
func (a *asker) everyStatus(wanted func(status int) bool) {
	a.t.Helper()
	total := 0
	for _, op := range a.operations() {
		for _, code := range slices.Sorted(maps.Keys(op.Responses.Map())) {
			status, err := strconv.Atoi(code)
			if err != nil {
				a.t.Errorf("%s: status %q", op.OperationID, code)
			}
			times, known := a.answered[op.OperationID][status], slices.Contains(never, op.OperationID+" "+code)
			total += times
			switch {
			case times == 0 && wanted(status) && !known:
				a.t.Errorf("%s was never answered with %d", op.OperationID, status)
			case times > 0 && known:
				a.t.Errorf("%s was answered with %d, although it is among what never comes: %s", op.OperationID, status, strings.Join(never, ", "))
			}
		}
	}
	a.t.Logf("%d answers of %d operations", total, len(a.operations()))
}

// TestTheDocumentDescribesARefusalOfTooMany asks for an operation of each class
// until it is too much. The house's clock stands meanwhile: a machine that is slow to
// ask is else never asked too much.
func TestTheDocumentDescribesARefusalOfTooMany(t *testing.T) {
	var stopped atomic.Pointer[time.Time]
	h := openWith(t, backend.Config{Where: backend.Where{Data: t.TempDir()}, RateLimits: true, Clock: func() time.Time {
		if at := stopped.Load(); at != nil {
			return *at
		}
		return time.Now()
	}})
	a := newAsker(h)
	mod := h.with("mod", "moderator")
	now := time.Now()
	stopped.Store(&now)
	for class, s := range map[string]sent{
		"auth":       {operation: operation{method: http.MethodPost}, path: "/v1/sessions/refresh", body: []byte(`{"refresh_token": "x"}`)},
		"batch":      {operation: operation{method: http.MethodPost}, path: "/v1/activities/batch"},
		"moderation": {operation: operation{method: http.MethodGet}, path: "/v1/moderation/bulk"},
		"read":       {operation: operation{method: http.MethodGet}, path: "/v1/me/stats"},
		"write":      {operation: operation{method: http.MethodPost}, path: "/v1/activities", body: []byte(`{}`)},
	} {
		s.header = http.Header{"Authorization": {"Bearer " + mod.token}, "Content-Type": {"application/json"}}
		status := 0
		for n := 0; status != http.StatusTooManyRequests && n < 10_000; n++ {
			status = a.send(s)
		}
		if status != http.StatusTooManyRequests {
			t.Errorf("of class %s as many as one likes are let through", class)
		}
	}
}

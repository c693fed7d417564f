package user_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user"
)

func (w *world) sessions(access string) []any {
	w.Helper()
	items, ok := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me/sessions", bearer: access})).body["items"].([]any)
	if !ok {
		w.Fatal("no list")
	}
	return items
}

func (w *world) changePassword(access, from, to string) response {
	w.Helper()
	return w.call(request{method: "POST", path: "/v1/me/password", bearer: access, body: fmt.Sprintf(`{"current":%q,"new":%q}`, from, to)})
}

func TestOnesOwnSessionsAreListed(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	w.register("bob")
	w.signIn("bob", goodPassword)
	body := fmt.Sprintf(`{"login":"anna","password":%q}`, goodPassword)
	first := w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/sessions", body: body,
		headers: map[string]string{"User-Agent": "Fire\u202efox \u00fc" + strings.Repeat("x", 300), "X-Forwarded-For": "203.0.113.7"}}))
	w.clock.advance(time.Minute)
	mine := w.signIn("anna", goodPassword)
	w.clock.advance(time.Minute)
	again := w.mustRefresh(tokens{refresh: first.text("refresh_token")})
	r := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me/sessions", bearer: mine.access}))
	equal(t, "Cache-Control", r.header.Get("Cache-Control"), "no-store")
	w.golden("sessions", r, map[string]string{
		w.claims(mine.access).Session.String(): "<mine>", w.claims(again.access).Session.String(): "<first>",
	})
}

func TestASessionNotesTheNetworkThatAGatewayTells(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	w.service = w.instance(func(c *user.Config, _ *user.Deps) { c.Gateways = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} })
	body := fmt.Sprintf(`{"login":"anna","password":%q}`, goodPassword)
	var last response
	for _, from := range []string{"203.0.113.7", "2001:db8:1:2:3:4:5:6"} {
		last = w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/sessions", body: body, headers: map[string]string{"X-Forwarded-For": from}}))
		w.clock.advance(time.Second)
	}
	var networks []any
	for _, s := range w.sessions(last.text("access_token")) {
		networks = append(networks, s.(map[string]any)["network"])
	}
	equal(t, "networks", networks, []any{"2001:db8:1::/48", "203.0.113.0/24"})
}

func TestOneEndsOnesOwnSessionsAndNobodyElses(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	w.register("bob")
	mine, other, bob := w.signIn("anna", goodPassword), w.signIn("anna", goodPassword), w.signIn("bob", goodPassword)
	end := func(s tokens) response {
		return w.call(request{method: "DELETE", path: "/v1/me/sessions/" + w.claims(s.access).Session.String(), bearer: mine.access})
	}
	w.want(http.StatusNotFound, end(bob))
	w.want(http.StatusNoContent, end(other))
	w.want(http.StatusNotFound, end(other))
	w.want(http.StatusNotFound, w.call(request{method: "DELETE", path: "/v1/me/sessions/" + uuid.NewString(), bearer: mine.access}))
	w.want(http.StatusUnprocessableEntity, w.call(request{method: "DELETE", path: "/v1/me/sessions/x", bearer: mine.access}))
	w.want(http.StatusUnauthorized, w.refresh(other))
	equal(t, "sessions left", len(w.sessions(mine.access)), 1)
	w.mustRefresh(bob)
	w.mustRefresh(mine)
}

func TestSigningOutEverywhereEndsEverySession(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	w.register("bob")
	mine, other, bob := w.signIn("anna", goodPassword), w.signIn("anna", goodPassword), w.signIn("bob", goodPassword)
	for range 2 { // it may be repeated
		w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/sessions", bearer: mine.access}))
	}
	w.want(http.StatusUnauthorized, w.refresh(mine))
	w.want(http.StatusUnauthorized, w.refresh(other))
	w.mustRefresh(bob)
	// What is out ends by its time.
	w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: other.access}))
	w.clock.advance(user.AccessLifetime)
	w.want(http.StatusUnauthorized, w.call(request{method: "GET", path: "/v1/me", bearer: other.access}))
}

const newPassword = "another horse battery"

func TestChangingThePasswordEndsTheOtherSessions(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine, other := w.signIn("anna", goodPassword), w.signIn("anna", goodPassword)
	for name, c := range map[string]struct {
		from, to string
		fields   []string
	}{
		"a wrong password":  {"wrong password", newPassword, []string{"current"}},
		"a short new one":   {goodPassword, "short", []string{"new"}},
		"nothing":           {"", "", []string{"current", "new"}},
		"far too long ones": {strings.Repeat("a", 129), strings.Repeat("a", 129), []string{"current", "new"}},
	} {
		r := w.changePassword(mine.access, c.from, c.to)
		equal(t, "status of "+name, r.status, http.StatusUnprocessableEntity)
		equal(t, "fields of "+name, r.fields(), c.fields)
	}
	other = w.mustRefresh(other)
	w.want(http.StatusNoContent, w.changePassword(mine.access, goodPassword, newPassword))
	w.want(http.StatusUnauthorized, w.refresh(other))
	w.mustRefresh(mine)
	w.want(http.StatusUnauthorized, w.call(request{method: "POST", path: "/v1/sessions", body: fmt.Sprintf(`{"login":"anna","password":%q}`, goodPassword)}))
	w.signIn("anna", newPassword)
}

// waiting is a vault whose next session starts only after something else.
type waiting struct {
	vault.Vault
	once   sync.Once
	before func()
}

func (v *waiting) StartSession(ctx context.Context, s vault.Session) error {
	v.once.Do(v.before)
	return v.Vault.StartSession(ctx, s)
}

func TestASignInWithTheOldPasswordDoesNotOutliveItsChange(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	mine := w.signIn("anna", goodPassword)
	slow := w.instance(func(_ *user.Config, d *user.Deps) {
		d.Vault = &waiting{Vault: d.Vault, before: func() {
			w.want(http.StatusNoContent, w.changePassword(mine.access, goodPassword, newPassword))
		}}
	})
	w.want(http.StatusUnauthorized, w.callOn(slow, request{method: "POST", path: "/v1/sessions", body: fmt.Sprintf(`{"login":"anna","password":%q}`, goodPassword)}))
	left, err := w.vault.Sessions(t.Context(), id, w.clock.Now())
	w.must(err)
	equal(t, "sessions left", len(left), 1)
}

func TestAnAddressThatIsNoneIsNoNetwork(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	req := httptest.NewRequest("POST", "/v1/sessions", strings.NewReader(fmt.Sprintf(`{"login":"anna","password":%q}`, goodPassword)))
	req.Header.Set("Content-Type", "application/json")
	req.RemoteAddr = "@"
	rec := httptest.NewRecorder()
	w.service.Handler().ServeHTTP(rec, req)
	equal(t, "status", rec.Code, http.StatusCreated)
}

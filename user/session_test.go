package user_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/user"
)

func TestSigningInGivesTokensOfTheUser(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	for _, login := range []string{"anna", "ANNA", "anna@example.org", "Anna@Example.ORG"} {
		body := fmt.Sprintf(`{"login":%q,"password":%q}`, login, goodPassword)
		r := w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/sessions", body: body}))
		equal(t, "Cache-Control", r.header.Get("Cache-Control"), "no-store")
		c := w.claims(r.text("access_token"))
		equal(t, "subject", c.Subject, id)
		equal(t, "roles", len(c.Roles), 0)
		equal(t, "life", c.ExpiresAt.Sub(c.IssuedAt), user.AccessLifetime)
		if login == "anna" {
			w.golden("session", r, map[string]string{r.text("access_token"): "<access>", r.text("refresh_token"): "<refresh>"})
		}
	}
}

func TestAWrongSignInSaysNothing(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	w.must(w.service.Import(t.Context(), []user.Imported{
		{ID: uuid.New(), Handle: "imported", DisplayName: "Imported", JoinedAt: w.clock.Now()}}))
	first := []byte(nil)
	for _, c := range []struct{ login, password string }{
		{"anna", "wrong password"}, {"anna@example.org", "wrong password"}, {"anna", "short"},
		{"nobody", goodPassword}, {"nobody@example.org", goodPassword},
		{"no login at all", goodPassword}, {"@@", goodPassword}, {"imported", goodPassword},
	} {
		body := fmt.Sprintf(`{"login":%q,"password":%q}`, c.login, c.password)
		r := w.want(http.StatusUnauthorized, w.call(request{method: "POST", path: "/v1/sessions", body: body}))
		if first == nil {
			first = r.raw
		}
		if !bytes.Equal(r.raw, first) {
			t.Errorf("%q is answered with %s, others with %s", c.login, r.raw, first)
		}
	}
}

func TestABadSignInBodyIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		body   string
		fields []string
	}{
		{`{}`, []string{"login", "password"}},
		{fmt.Sprintf(`{"login":%q,"password":%q}`, strings.Repeat("a", 255), strings.Repeat("b", 129)), []string{"login", "password"}},
		{`{"login":"anna","password":"x","remember":true}`, []string{"remember"}},
	} {
		r := w.call(request{method: "POST", path: "/v1/sessions", body: c.body})
		equal(t, "status", r.status, http.StatusUnprocessableEntity)
		equal(t, "fields", r.fields(), c.fields)
	}
}

func TestARefreshTokenWorksOnceAndItsReuseEndsTheFamily(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	first, other := w.signIn("anna", goodPassword), w.signIn("anna", goodPassword)
	second := w.mustRefresh(first)
	third := w.mustRefresh(second)
	equal(t, "session of the first and the third", w.claims(first.access).Session, w.claims(third.access).Session)

	w.want(http.StatusUnauthorized, w.refresh(first))
	w.want(http.StatusUnauthorized, w.refresh(third))
	w.mustRefresh(other)
}

func TestOfManyWhoRefreshWithOneTokenAtMostOneSucceeds(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine := w.signIn("anna", goodPassword)
	answers := make([]response, 16)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = w.refresh(mine) })
	}
	wg.Wait()
	won := 0
	for _, r := range answers {
		if r.status == http.StatusCreated {
			won++
			w.want(http.StatusUnauthorized, w.refresh(tokens{refresh: r.text("refresh_token")}))
		} else {
			equal(t, "status of the others", r.status, http.StatusUnauthorized)
		}
	}
	equal(t, "how many succeeded", won, 1)
}

func TestATokenThatSomebodyMadeUpEndsNobodysSession(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine := w.signIn("anna", goodPassword)
	swap := func(s string, at int) string {
		c := byte('A')
		if s[at] == c {
			c = 'B'
		}
		return s[:at] + string(c) + s[at+1:]
	}
	for _, made := range []string{"x", mine.access, mine.refresh + "A", mine.refresh[1:], swap(mine.refresh, 60), swap(mine.refresh, 100)} {
		w.want(http.StatusUnauthorized, w.refresh(tokens{refresh: made}))
	}
	r := w.want(http.StatusUnprocessableEntity, w.refresh(tokens{}))
	equal(t, "fields", r.fields(), []string{"refresh_token"})
	w.mustRefresh(mine)
}

func TestRefreshTokensExpire(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine := w.signIn("anna", goodPassword)
	w.clock.advance(user.RefreshLifetime - time.Second)
	mine = w.mustRefresh(mine)
	w.clock.advance(user.RefreshLifetime - time.Second)
	mine = w.mustRefresh(mine)
	w.clock.advance(user.RefreshLifetime)
	w.want(http.StatusUnauthorized, w.refresh(mine))
}

func TestSigningOutEndsTheSession(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine, other := w.signIn("anna", goodPassword), w.signIn("anna", goodPassword)
	for range 2 { // it may be repeated
		r := w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/sessions/current", bearer: mine.access}))
		equal(t, "body", len(r.raw), 0)
	}
	w.want(http.StatusUnauthorized, w.refresh(mine))
	w.mustRefresh(other)
}

func TestRefreshTokensAreKeptAsDigestsOnly(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine := w.signIn("anna", goodPassword)
	for _, path := range []string{w.logPath(), w.vaultPath()} {
		for _, secret := range []string{mine.refresh, mine.access, goodPassword} {
			if bytes.Contains(w.contents(path), []byte(secret)) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
	}
	if !bytes.Contains(w.contents(w.vaultPath()), []byte("$argon2id$")) {
		t.Error("the vault holds no password hash: this test looks at the wrong file")
	}
}

func TestRoutesWithATokenRefuseThoseWithoutAGoodOne(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna").String()
	expired := w.signIn("anna", goodPassword).access
	w.clock.advance(user.AccessLifetime)
	member := w.signIn("anna", goodPassword).access
	for _, c := range []struct {
		method, path string
		member       int // status for a member
	}{
		{"GET", "/v1/me", 200},
		{"PATCH", "/v1/me", 415},
		{"GET", "/v1/users/" + id, 200},
		{"POST", "/v1/admin/users/" + id + "/roles", 403},
		{"POST", "/internal/users/cards", 415},
		{"GET", "/internal/users/" + id, 403},
		{"GET", "/v1/admin/keys", 403},
		{"POST", "/v1/admin/keys/rotate", 403},
		{"GET", "/v1/me/sessions", 200},
		{"POST", "/v1/me/password", 415},
		{"DELETE", "/v1/me/sessions/" + id, 404},
		{"DELETE", "/v1/sessions", 204},
		{"DELETE", "/v1/sessions/current", 204},
		{"DELETE", "/v1/me", 204},
	} {
		for name, bearer := range map[string]string{"no": "", "an expired": expired, "a forged": w.forge(), "a made-up": "x.y.z"} {
			r := w.call(request{method: c.method, path: c.path, bearer: bearer})
			equal(t, fmt.Sprintf("%s %s with %s token", c.method, c.path, name), r.status, http.StatusUnauthorized)
			if !strings.HasPrefix(r.header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s %s: WWW-Authenticate is %q", c.method, c.path, r.header.Get("WWW-Authenticate"))
			}
		}
		equal(t, c.method+" "+c.path+" as a member", w.call(request{method: c.method, path: c.path, bearer: member}).status, c.member)
	}
}

func TestTheKeysArePublishedAndShared(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	access := w.signIn("anna", goodPassword).access
	other := w.instance()
	for _, s := range []*user.Service{w.service, other} {
		r := w.want(http.StatusOK, w.callOn(s, request{method: "GET", path: "/.well-known/jwks.json"}))
		equal(t, "Cache-Control", r.header.Get("Cache-Control"), "public, max-age=300")
		keys, err := token.ParseJWKS(r.raw)
		w.must(err)
		if _, err := token.NewVerifier(keys, w.clock.Now).Verify(t.Context(), access); err != nil {
			t.Errorf("the published keys do not verify a token: %v", err)
		}
		var set struct {
			Keys []struct {
				ID string `json:"kid"`
				X  string `json:"x"`
			} `json:"keys"`
		}
		w.must(json.Unmarshal(r.raw, &set))
		w.golden("jwks", r, map[string]string{set.Keys[0].ID: "<kid>", set.Keys[0].X: "<x>"})
	}
	w.want(http.StatusOK, w.callOn(other, request{method: "GET", path: "/v1/me", bearer: access}))
}

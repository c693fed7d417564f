package user_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user"
)

func TestErasingLeavesNothingThatSaysWhoItWas(t *testing.T) {
	w := newWorld(t)
	r := w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users", body: registration("annabel", map[string]any{
		"display_name": "Annabel Lee", "city": "Kingdom by the Sea",
	})}))
	id := uuid.MustParse(r.text("id"))
	w.register("bob")
	mine, bob := w.signIn("annabel", goodPassword), w.signIn("bob", goodPassword)
	w.want(http.StatusOK, w.patch(mine.access, `"1"`, `{"about":"Many and many a year ago"}`))
	w.card(bob.access, id)
	keys, err := w.vault.Keys(t.Context(), id)
	w.must(err)
	hash, err := w.vault.PasswordHash(t.Context(), id)
	w.must(err)
	key := keys[id]
	if !bytes.Contains(w.contents(w.vaultPath()), key[:]) {
		t.Fatal("the key is not in the vault's file: this test cannot see it go")
	}

	w.want(http.StatusPreconditionFailed, w.call(request{method: "DELETE", path: "/v1/me", bearer: mine.access,
		headers: map[string]string{"If-Match": `"1"`}}))
	for range 2 { // it may be repeated
		r := w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: mine.access}))
		equal(t, "body", len(r.raw), 0)
	}

	w.want(http.StatusNotFound, w.call(request{method: "GET", path: "/v1/users/" + id.String(), bearer: bob.access}))
	w.want(http.StatusNotFound, w.call(request{method: "GET", path: "/v1/me", bearer: mine.access}))
	w.want(http.StatusNotFound, w.patch(mine.access, `"3"`, `{"city":"Bonn"}`))
	w.want(http.StatusUnauthorized, w.refresh(mine))
	w.want(http.StatusUnauthorized, w.call(request{method: "POST", path: "/v1/sessions",
		body: fmt.Sprintf(`{"login":"annabel","password":%q}`, goodPassword)}))
	equal(t, "cards", w.cards(bob.access, id), []any{})
	equal(t, "events", types(w.stream(id)), []string{events.UserRegistered, events.UserProfileChanged, events.UserErased})
	again := w.call(request{method: "POST", path: "/v1/users", body: registration("Annabel", nil)})
	equal(t, "fields of who comes next", again.fields(), []string{"handle"})

	// The key is out of the vault's file once that is tidied, which Run does first.
	w.run(w.service)
	w.eventually("the key is gone from the file", func() bool { return !bytes.Contains(w.contents(w.vaultPath()), key[:]) })
	if bytes.Contains(w.contents(w.vaultPath()), []byte(hash)) {
		t.Error("the vault's file still holds the password hash")
	}
	for _, path := range []string{w.logPath(), w.vaultPath()} {
		raw := bytes.ToLower(w.contents(path))
		for _, secret := range []string{"annabel", "kingdom", "many a year"} {
			if bytes.Contains(raw, []byte(secret)) {
				t.Errorf("%s holds %q", path, secret)
			}
		}
	}
}

// failing is a vault that cannot erase, as when its process dies between the
// event and the erasure.
type failing struct{ vault.Vault }

func (failing) Erase(context.Context, uuid.UUID) error {
	return fmt.Errorf("test: %w", vault.ErrUnavailable)
}

func TestAnErasureThatWasCutOffIsFinished(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	mine := w.signIn("anna", goodPassword)
	broken := w.instance(func(_ *user.Config, d *user.Deps) { d.Vault = failing{d.Vault} })
	r := w.callOn(broken, request{method: "DELETE", path: "/v1/me", bearer: mine.access})
	equal(t, "status", r.status, http.StatusServiceUnavailable)
	equal(t, "Retry-After", r.header.Get("Retry-After"), "1")
	if keys, err := w.vault.Keys(t.Context(), id); len(keys) != 1 || err != nil {
		t.Fatalf("keys %v, %v: nothing is left to finish", keys, err)
	}
	w.run(w.service)
	w.catchUp()
	if keys, err := w.vault.Keys(t.Context(), id); len(keys) != 0 || err != nil {
		t.Errorf("the key is kept: %v", err)
	}
	if _, err := w.vault.PasswordHash(t.Context(), id); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("password hash: %v, want ErrNotFound", err)
	}
	w.want(http.StatusUnauthorized, w.refresh(mine))
}

func TestATokenOfAnErasedUserStillExpiresByItself(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine := w.signIn("anna", goodPassword)
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: mine.access}))
	w.clock.advance(user.AccessLifetime + time.Second)
	w.want(http.StatusUnauthorized, w.call(request{method: "GET", path: "/v1/me", bearer: mine.access}))
}

package e2e_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/service/token"
)

func TestSessionsPasswordsAndKeysAtTheFrontDoor(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		anna := h.register("anna")
		h.as("anna")
		h.as("anna")
		sessions := func() []object { return anna.list("/v1/me/sessions").Items }
		if own := sessions(); len(own) != 3 || own[2]["current"] != true || own[0]["network"] != "127.0.0.0/24" {
			t.Fatalf("sessions: %v", own)
		}
		lost := sessions()[1]["id"]
		anna.send(http.MethodDelete, fmt.Sprint("/v1/me/sessions/", lost), "", nil).is(http.StatusNoContent)
		h.register("bert").send(http.MethodDelete, fmt.Sprint("/v1/me/sessions/", sessions()[0]["id"]), "", nil).is(http.StatusNotFound)
		if n := len(sessions()); n != 2 {
			t.Fatalf("%d sessions are left", n)
		}
		anna.post("/v1/me/password", object{"current": "wrong password", "new": "another horse battery"}).is(http.StatusUnprocessableEntity)
		anna.post("/v1/me/password", object{"current": password, "new": "another horse battery"}).is(http.StatusNoContent)
		if own := sessions(); len(own) != 1 || own[0]["current"] != true {
			t.Fatalf("sessions after the change of the password: %v", own)
		}
		(&client{house: h}).post("/v1/sessions", object{"login": "anna", "password": password}).is(http.StatusUnauthorized)

		// Rotated, the keys of before and after are published, and every token is good.
		admin := h.as("admin")
		anna.post("/v1/admin/keys/rotate", object{}).is(http.StatusForbidden)
		admin.post("/v1/admin/keys/rotate", object{}).is(http.StatusOK)
		keys, err := token.ParseJWKS((&client{house: h}).get("/.well-known/jwks.json").is(http.StatusOK).body)
		if err != nil || len(keys) != 2 {
			t.Fatalf("%d keys are published (%v)", len(keys), err)
		}
		anna.get("/v1/me").is(http.StatusOK)

		// Compromised, there is one key, and whoever signs in has a token of it.
		admin.post("/v1/admin/keys/rotate", object{"compromised": true}).is(http.StatusOK)
		if l := h.as("admin").list("/v1/admin/keys"); len(l.Items) != 1 || l.Items[0]["state"] != "signing" {
			t.Fatalf("keys: %v", l.Items)
		}
		keys, err = token.ParseJWKS((&client{house: h}).get("/.well-known/jwks.json").is(http.StatusOK).body)
		if err != nil || len(keys) != 1 {
			t.Fatalf("%d keys are published (%v)", len(keys), err)
		}
		(&client{house: h}).get("/.well-known/openid-configuration").is(http.StatusNotFound)

		again := h.as("bert")
		again.send(http.MethodDelete, "/v1/sessions", "", nil).is(http.StatusNoContent)
		if own := again.list("/v1/me/sessions").Items; len(own) != 0 {
			t.Fatalf("sessions after signing out everywhere: %v", own)
		}
	})
}

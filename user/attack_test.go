package user_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/user"
)

func TestNobodyGivesThemselvesWhatIsNotTheirs(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	for field, value := range map[string]any{
		"id": uuid.New(), "roles": []string{"admin"}, "Roles": []string{"admin"}, "role": "admin", "status": "active",
		"joined_at": "2000-01-01T00:00:00Z", "version": 7, "imported": true, "erased": false, "marks": []string{},
		"sealed": "AAAA", "password_hash": "$argon2id$", "trusted": true, "__proto__": map[string]any{"roles": []string{"admin"}},
		"$set": map[string]any{"roles": []string{"admin"}}, "roles.0": "admin", "user": map[string]any{"roles": []string{"admin"}},
	} {
		r := w.call(request{method: "POST", path: "/v1/users", body: registration("mallory", map[string]any{field: value})})
		equal(t, "status of registering with "+field, r.status, http.StatusUnprocessableEntity)
		body, err := json.Marshal(map[string]any{field: value, "city": "Bonn"})
		w.must(err)
		equal(t, "status of a patch with "+field, w.patch(access, "*", string(body)).status, http.StatusUnprocessableEntity)
	}
	// Values that a database would take for operators are no strings.
	for _, body := range []string{`{"login":{"$gt":""},"password":{"$gt":""}}`, `{"login":["anna"],"password":"x"}`, `{"login":"anna","password":{"$ne":null}}`} {
		w.want(http.StatusUnprocessableEntity, w.call(request{method: "POST", path: "/v1/sessions", body: body}))
	}
	w.want(http.StatusUnprocessableEntity, w.call(request{method: "POST", path: "/v1/sessions/refresh", body: `{"refresh_token":{"$gt":""}}`}))
	equal(t, "events", len(w.stream(id)), 1)
	head, err := w.log.Head(t.Context(), 0)
	w.must(err)
	equal(t, "events in the log", head, 1)
}

func TestARoleThatAClientClaimsIsNone(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	mine := w.signIn("anna", goodPassword)
	parts := strings.Split(mine.access, ".")
	var payload map[string]any
	w.must(json.Unmarshal(w.unbase64(parts[1]), &payload))
	payload["roles"] = []string{"admin"}
	raised := parts[0] + "." + jsonPart(t, payload) + "." + parts[2]
	for name, c := range map[string]struct {
		r      request
		status int
	}{
		"in a header": {request{method: "GET", path: "/v1/admin/keys", bearer: mine.access,
			headers: map[string]string{"X-Roles": "admin", "X-User-Roles": "admin", "Meet5-Roles": "admin", "X-Forwarded-User": "admin"}}, http.StatusForbidden},
		"in the query":             {request{method: "GET", path: "/v1/admin/keys?roles=admin&access_token=x", bearer: mine.access}, http.StatusForbidden},
		"in a changed token":       {request{method: "GET", path: "/v1/admin/keys", bearer: raised}, http.StatusUnauthorized},
		"in a token of their own":  {request{method: "GET", path: "/v1/admin/keys", bearer: w.forge()}, http.StatusUnauthorized},
		"with the refresh token":   {request{method: "GET", path: "/v1/me", bearer: mine.refresh}, http.StatusUnauthorized},
		"for the own account":      {request{method: "POST", path: "/v1/admin/users/" + w.claims(mine.access).Subject.String() + "/roles", bearer: mine.access, body: `{"roles":["admin"]}`}, http.StatusForbidden},
		"when signing in":          {request{method: "POST", path: "/v1/sessions", body: fmt.Sprintf(`{"login":"anna","password":%q,"roles":["admin"]}`, goodPassword)}, http.StatusUnprocessableEntity},
		"when refreshing":          {request{method: "POST", path: "/v1/sessions/refresh", body: fmt.Sprintf(`{"refresh_token":%q,"roles":["admin"]}`, mine.refresh)}, http.StatusUnprocessableEntity},
		"to see another's account": {request{method: "GET", path: "/internal/users/" + uuid.NewString(), bearer: mine.access}, http.StatusForbidden},
	} {
		t.Run(name, func(t *testing.T) { equal(t, "status", w.call(c.r).status, c.status) })
	}
	equal(t, "roles after a refresh", len(w.claims(w.mustRefresh(mine).access).Roles), 0)
}

// Timing itself is not measured: machines differ. That the dear part of the work is
// done alike is: a hash takes 19 MiB.
func TestALoginThatNobodyHasCostsAsMuchAsAWrongPassword(t *testing.T) {
	const hash = 19 << 20
	w := newWorld(t, func(c *user.Config, _ *user.Deps) { c.UnlimitedGuesses = true })
	w.register("anna")
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
	w.register("bob")
	w.must(w.service.Import(t.Context(), []user.Imported{{ID: uuid.New(), Handle: "imported", DisplayName: "Imported", JoinedAt: w.clock.Now()}}))
	var first []byte
	for _, login := range []string{"bob", "bob@example.org", "nobody", "nobody@example.org", "anna", "imported", "no login at all"} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r := w.want(http.StatusUnauthorized, w.call(request{method: "POST", path: "/v1/sessions", body: fmt.Sprintf(`{"login":%q,"password":"wrong password"}`, login)}))
		runtime.ReadMemStats(&after)
		if spent := after.TotalAlloc - before.TotalAlloc; spent < hash || spent > hash+hash/2 {
			t.Errorf("%s: %d MiB were spent, want those of one hash", login, spent>>20)
		}
		if first == nil {
			first = r.raw
		}
		if !bytes.Equal(first, r.raw) {
			t.Errorf("%s is answered with %s, others with %s", login, r.raw, first)
		}
	}
}

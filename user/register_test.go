package user_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user"
)

func TestRegisteringAnswersWithTheAccount(t *testing.T) {
	w := newWorld(t)
	r := w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users",
		body: registration("Anna", map[string]any{"email": "Anna@Example.org"})}))
	id := r.text("id")
	w.golden("registered", r, map[string]string{id: "<id>"})
	equal(t, "Location", r.header.Get("Location"), "/v1/users/"+id)
	equal(t, "ETag", r.header.Get("ETag"), `"1"`)
	equal(t, "version of the ID", uuid.MustParse(id).Version(), 7)
}

func TestCityAndAboutMayBeLeftOut(t *testing.T) {
	w := newWorld(t)
	r := w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users",
		body: registration("anna", map[string]any{"city": nil, "about": nil})}))
	equal(t, "city and about", r.text("city")+r.text("about"), "")
	w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users",
		body: strings.Replace(registration("bob", nil), `"Berlin"`, "null", 1)}))
}

func TestABadRegistrationIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range []struct {
		name, body string
		headers    map[string]string
		status     int
		fields     []string
	}{
		{"everything missing", `{}`, nil, 422, []string{"handle", "email", "password", "display_name", "birth_date"}},
		{"everything bad", `{"handle":"!","email":"x","password":"short","display_name":"","birth_date":"2030-01-01","city":"\u0007","about":"\u0007"}`,
			nil, 422, []string{"handle", "email", "password", "display_name", "birth_date", "city", "about"}},
		{"a field that is not known", registration("anna", map[string]any{"roles": []string{"admin"}}), nil, 422, []string{"roles"}},
		{"a field of another type", registration("anna", map[string]any{"handle": 7}), nil, 422, []string{"handle"}},
		{"a field twice", `{"handle":"a","handle":"b"}`, nil, 422, []string{"handle"}},
		{"too young", registration("anna", map[string]any{"birth_date": "2010-01-01"}), nil, 422, []string{"birth_date"}},
		{"JSON that is cut off", `{"handle":`, nil, 400, nil},
		{"no body", "", map[string]string{"Content-Type": "application/json"}, 400, nil},
		{"not JSON", registration("anna", nil), map[string]string{"Content-Type": "text/plain"}, 415, nil},
		{"no type", registration("anna", nil), map[string]string{"Content-Type": ""}, 415, nil},
		{"far too large", registration("anna", map[string]any{"about": strings.Repeat("a", 100_000)}), nil, 413, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.call(request{method: "POST", path: "/v1/users", body: c.body, headers: c.headers})
			equal(t, "status", r.status, c.status)
			equal(t, "fields", r.fields(), c.fields)
		})
	}
	if head, err := w.log.Head(t.Context(), 0); head != 0 || err != nil {
		t.Errorf("%d events were written, %v", head, err)
	}
}

func TestHandlesAndEmailsAreHeldInAnySpellingOfCase(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users",
		body: registration("anna", map[string]any{"email": "stra\u00dfe@example.org"})}))
	for _, c := range []struct {
		handle, email string
		fields        []string
	}{
		{"anna", "other@example.org", []string{"handle"}},
		{"ANNA", "other@example.org", []string{"handle"}},
		{"other", "stra\u00dfe@example.org", []string{"email"}},
		{"other", "STRASSE@EXAMPLE.ORG", []string{"email"}},
		{"aNNa", "Strasse@example.org", []string{"handle", "email"}},
		{"admin", "other@example.org", []string{"handle"}},
		{"ADMIN", "other@example.org", []string{"handle"}},
	} {
		r := w.call(request{method: "POST", path: "/v1/users", body: registration(c.handle, map[string]any{"email": c.email})})
		equal(t, "status of "+c.handle, r.status, http.StatusConflict)
		equal(t, "fields of "+c.handle+" "+c.email, r.fields(), c.fields)
	}
}

// spellings are 16 ways to write a name of at least four letters.
func spellings(name string) (all []string) {
	for i := range 8 {
		b := []byte(name)
		for j := range 3 {
			if i>>j&1 == 1 {
				b[j] = bytes.ToUpper(b[j : j+1])[0]
			}
		}
		all = append(all, string(b))
	}
	return all
}

// The instances share the log's store and the vault as processes do: each has a
// writer of its own.
func TestOfManyWhoWantOneNameAtOnceExactlyOneGetsIt(t *testing.T) {
	for _, c := range []struct {
		field string
		body  func(i int, spelling string) string
	}{
		{"handle", func(i int, spelling string) string {
			return registration(spelling, map[string]any{"email": fmt.Sprintf("person%d@example.org", i)})
		}},
		{"email", func(i int, spelling string) string {
			return registration(fmt.Sprintf("person%d", i), map[string]any{"email": spelling + "@example.org"})
		}},
	} {
		t.Run(c.field, func(t *testing.T) {
			w := newWorld(t)
			instances := []*user.Service{w.service}
			for range 3 {
				writer := log.New(w.users, log.Options{Clock: w.clock.Now})
				t.Cleanup(writer.Close)
				instances = append(instances, w.instance(func(_ *user.Config, d *user.Deps) { d.Log = writer }))
			}
			answers := make([]response, 8)
			var wg sync.WaitGroup
			start := make(chan struct{})
			for i, spelling := range spellings("annabel") {
				wg.Go(func() {
					<-start
					answers[i] = w.callOn(instances[i%len(instances)], request{method: "POST", path: "/v1/users", body: c.body(i, spelling)})
				})
			}
			close(start)
			wg.Wait()

			won := 0
			for _, r := range answers {
				if r.status == http.StatusCreated {
					won++
					continue
				}
				equal(t, "status of one who lost", r.status, http.StatusConflict)
				equal(t, "fields of one who lost", r.fields(), []string{c.field})
			}
			equal(t, "how many won", won, 1)
			head, err := w.log.Head(t.Context(), 0)
			w.must(err)
			equal(t, "events in the log", head, 1)
		})
	}
}

// racing is a vault that lets another one register first, between the moment a
// name is found free and the moment it is taken.
type racing struct {
	vault.Vault
	first func()
	users []uuid.UUID
}

func (v *racing) Enrol(ctx context.Context, id uuid.UUID, key vault.Key, hash string) error {
	if first := v.first; first != nil {
		v.first = nil
		first()
		v.users = append(v.users, id)
	}
	return v.Vault.Enrol(ctx, id, key, hash)
}

func TestWhoLosesANameLeavesNoSecretsBehind(t *testing.T) {
	w := newWorld(t)
	v := &racing{Vault: w.vault, first: func() { w.register("anna") }}
	loser := w.instance(func(_ *user.Config, d *user.Deps) { d.Vault = v })
	r := w.callOn(loser, request{method: "POST", path: "/v1/users", body: registration("Anna", map[string]any{"email": "other@example.org"})})
	equal(t, "status", r.status, http.StatusConflict)
	equal(t, "fields", r.fields(), []string{"handle"})
	if len(v.users) != 1 {
		t.Fatalf("the loser enrolled %d users", len(v.users))
	}
	if keys, err := w.vault.Keys(t.Context(), v.users...); len(keys) != 0 || err != nil {
		t.Errorf("the loser's key is kept: %v", err)
	}
	if _, err := w.vault.PasswordHash(t.Context(), v.users[0]); !errors.Is(err, vault.ErrNotFound) {
		t.Errorf("the loser's password hash: %v, want ErrNotFound", err)
	}
}

func TestTheLogHoldsNothingThatSaysWhoSomebodyIs(t *testing.T) {
	w := newWorld(t)
	body := registration("AnnabelHandle", map[string]any{
		"email": "annabel.mail@example.org", "display_name": "Annabel Display", "city": "Annabelcity",
		"about": "Annabel about", "birth_date": "1991-02-03",
	})
	id := uuid.MustParse(w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users", body: body})).text("id"))
	evs := w.stream(id)
	equal(t, "events", types(evs), []string{events.UserRegistered})
	equal(t, "claims", len(evs[0].Claims), 2)
	if !evs[0].OccurredAt.Equal(w.clock.Now()) {
		t.Errorf("it occurred at %v, want the clock's %v", evs[0].OccurredAt, w.clock.Now())
	}
	everything := w.contents(w.logPath())
	for _, secret := range []string{"annabel", "1991-02-03", goodPassword, "argon2"} {
		if bytes.Contains(bytes.ToLower(everything), []byte(secret)) {
			t.Errorf("the log's file holds %q", secret)
		}
	}
}

func TestSealedDataOpensForItsOwnUserAndEventOnly(t *testing.T) {
	w := newWorld(t)
	anna, bob := w.register("anna"), w.register("bob")
	keys, err := w.vault.Keys(t.Context(), anna, bob)
	w.must(err)
	if keys[anna] == keys[bob] {
		t.Error("two users share a key")
	}
	sealed := func(id uuid.UUID) []byte {
		p, err := events.Unmarshal[events.Registration](w.stream(id)[0])
		w.must(err)
		return p.Sealed
	}
	if slices.Equal(sealed(anna)[:12], sealed(bob)[:12]) {
		t.Error("two seals share a nonce")
	}
	// What was sealed as a registration does not open as a changed profile.
	e := w.stream(anna)[0].Event
	e.ID, e.Version, e.Type = uuid.New(), 2, events.UserProfileChanged
	e.Claims = nil
	e.Data = fmt.Appendf(nil, `{"sealed":%q}`, w.base64(sealed(anna)))
	_, err = w.log.Append(t.Context(), e)
	w.must(err)
	r := w.call(request{method: "GET", path: "/v1/users/" + anna.String(), bearer: w.signIn("bob", goodPassword).access})
	equal(t, "status of data that was sealed for another event", r.status, http.StatusInternalServerError)
}

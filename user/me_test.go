package user_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/user"
)

func (w *world) patch(access, etag, body string) response {
	w.Helper()
	headers := map[string]string{"Content-Type": "application/merge-patch+json"}
	if etag != "" {
		headers["If-Match"] = etag
	}
	return w.call(request{method: "PATCH", path: "/v1/me", bearer: access, body: body, headers: headers})
}

func TestOnesOwnAccountIsShownWithItsVersion(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	r := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
	equal(t, "ETag", r.header.Get("ETag"), `"1"`)
	w.golden("me", r, map[string]string{id.String(): "<id>"})
}

func TestAMergePatchChangesWhatItNames(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	r := w.want(http.StatusOK, w.patch(access, `"1"`, `{"display_name":" Anne ","city":null,"birth_date":"1991-02-03"}`))
	w.golden("patched", r, map[string]string{id.String(): "<id>"})
	equal(t, "ETag", r.header.Get("ETag"), `"2"`)
	again := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: access}))
	equal(t, "what is read afterwards", string(again.raw), string(r.raw))
	equal(t, "ETag of that", again.header.Get("ETag"), `"2"`)
	equal(t, "events", types(w.stream(id)), []string{events.UserRegistered, events.UserProfileChanged})

	// As plain JSON, for any version.
	r = w.want(http.StatusOK, w.call(request{method: "PATCH", path: "/v1/me", bearer: access, body: `{"about":"New"}`,
		headers: map[string]string{"If-Match": "*"}}))
	equal(t, "about", r.text("about"), "New")
	equal(t, "display name", r.text("display_name"), "Anne")
}

func TestAPatchThatChangesNothingWritesNothing(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	for _, body := range []string{`{}`, `{"city":"Berlin"}`, `{"display_name":"The person anna","about":"Hello"}`} {
		r := w.want(http.StatusOK, w.patch(access, `"1"`, body))
		equal(t, "ETag", r.header.Get("ETag"), `"1"`)
	}
	equal(t, "events", len(w.stream(id)), 1)
}

func TestABadPatchIsRefused(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	for _, c := range []struct {
		name, etag, body string
		status           int
		fields           []string
	}{
		{"without If-Match", "", `{"city":"Bonn"}`, 428, nil},
		{"for another version", `"2"`, `{"city":"Bonn"}`, 412, nil},
		{"for a weak version", `W/"1"`, `{"city":"Bonn"}`, 412, nil},
		{"handle and e-mail", `"1"`, `{"handle":"bob","email":"bob@example.org"}`, 422, []string{"handle", "email"}},
		{"everything bad", `"1"`, `{"email":null,"display_name":null,"birth_date":null,"city":"\u0007","about":"\u0007"}`,
			422, []string{"email", "display_name", "birth_date", "city", "about"}},
		{"a birth date that is none", `"1"`, `{"birth_date":"yesterday"}`, 422, []string{"birth_date"}},
		{"a field that is not known", `"1"`, `{"roles":["admin"]}`, 422, []string{"roles"}},
		{"a field of another type", `"1"`, `{"city":7}`, 422, []string{"city"}},
		{"JSON that is cut off", `"1"`, `{"city":`, 400, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := w.patch(access, c.etag, c.body)
			equal(t, "status", r.status, c.status)
			equal(t, "fields", r.fields(), c.fields)
		})
	}
	r := w.call(request{method: "PATCH", path: "/v1/me", bearer: access, body: `{}`, headers: map[string]string{"Content-Type": "text/json"}})
	equal(t, "status of another type", r.status, http.StatusUnsupportedMediaType)
	equal(t, "Accept-Patch", r.header.Get("Accept-Patch"), "application/merge-patch+json")
	equal(t, "events", len(w.stream(id)), 1)
}

func TestOfManyPatchesOfOneVersionExactlyOneIsMade(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	access := w.signIn("anna", goodPassword).access
	answers := make([]response, 8)
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() { answers[i] = w.patch(access, `"1"`, fmt.Sprintf(`{"city":"City %d"}`, i)) })
	}
	wg.Wait()
	won := 0
	for _, r := range answers {
		if r.status == http.StatusOK {
			won++
		} else {
			equal(t, "status of the others", r.status, http.StatusPreconditionFailed)
		}
	}
	equal(t, "how many were made", won, 1)
	equal(t, "events", len(w.stream(id)), 2)
}

func TestOthersSeeTheProfile(t *testing.T) {
	w := newWorld(t)
	id := w.register("anna")
	w.register("bob")
	access := w.signIn("bob", goodPassword).access
	r := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/users/" + id.String(), bearer: access}))
	w.golden("profile", r, map[string]string{id.String(): "<id>"})

	imported := uuid.New()
	w.must(w.service.Import(t.Context(), []user.Imported{
		{ID: imported, Handle: "page-7", DisplayName: "Page 7", JoinedAt: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)}}))
	r = w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/users/" + imported.String(), bearer: access}))
	w.golden("profile_imported", r, map[string]string{imported.String(): "<id>"})

	for path, status := range map[string]int{
		uuid.NewString():                           404,
		"x":                                        422,
		strings.ReplaceAll(id.String(), "-", ""):   422,
		"urn:uuid:" + id.String():                  422,
		"{" + id.String() + "}":                    422,
		strings.ToUpper(id.String()):               200,
		id.String() + "/":                          422,
		"00000000-0000-0000-0000-000000000000":     404,
		"00000000-0000-0000-0000-00000000000g":     422,
		id.String() + id.String() + id.String():    422,
		"%2e%2e":                                   422,
		"018f3c5e-7b1a-7c3d-9e2f-0a1b2c3d4e5f%00a": 422,
	} {
		r := w.call(request{method: "GET", path: "/v1/users/" + path, bearer: access})
		equal(t, "status of "+path, r.status, status)
		if status == 422 {
			equal(t, "fields of "+path, r.fields(), []string{"id"})
		}
	}
}

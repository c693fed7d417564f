package history_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/projections/history"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

var wholeSecond = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// door serves a log of so many visits; ask calls it as an analyst.
func door(t *testing.T, visits int) (ask func(path, accept string) *httptest.ResponseRecorder) {
	t.Helper()
	e, raw := serve(t, filled(t, visits))
	return func(path, accept string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, request(t, path, raw, accept))
		return w
	}
}

func request(t *testing.T, path, raw, accept string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+raw)
	if accept != "" {
		r.Header.Set("Accept", accept)
	}
	return r
}

// filled is a log of so many visits.
func filled(t *testing.T, visits int) log.Reader {
	t.Helper()
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log("activity", 2)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store, log.Options{Clock: func() time.Time { return wholeSecond }})
	t.Cleanup(func() {
		l.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	var pending []*log.Pending
	wait := func() {
		for _, p := range pending {
			if _, err := p.Wait(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		pending = pending[:0]
	}
	for i := range visits {
		p, err := l.Submit(events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.UUID{1, byte(i)}, OccurredAt: wholeSecond.Add(time.Duration(i) * time.Second),
			Data: events.Activity{Target: uuid.UUID{9}, JoinedAt: wholeSecond}.AppendJSON(nil),
		})
		if err != nil {
			t.Fatal(err)
		}
		if pending = append(pending, p); len(pending) == 50 { // so many are in a commit at most
			wait()
		}
	}
	wait()
	return store
}

// serve serves a log, and makes an analyst's token.
func serve(t *testing.T, r log.Reader) (e *echo.Echo, raw string) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := token.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err = signer.Sign(token.Claims{
		Subject: uuid.New(), Session: uuid.New(), Roles: []string{token.RoleAnalyst}, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute),
	})
	if err != nil {
		t.Fatal(err)
	}
	e = web.New(web.Options{Service: "test"})
	history.Logs{r}.Mount(e, token.NewVerifier(token.NewStaticKeySet(public), time.Now))
	return e, raw
}

func TestTheLogsAreListedWithTimesThatAlwaysHaveFractions(t *testing.T) {
	var got struct {
		Items []struct {
			Name    string
			Events  uint64
			FirstAt *string `json:"first_at"`
		}
	}
	if err := json.Unmarshal(door(t, 3)("/v1/logs", "").Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Items) != 1 || got.Items[0].Events != 3 || got.Items[0].FirstAt == nil || *got.Items[0].FirstAt != "2026-01-02T03:04:05.000000Z" {
		t.Errorf("got %+v", got)
	}
	if w := door(t, 0)("/v1/logs", ""); !strings.Contains(w.Body.String(), `"first_at":null`) {
		t.Errorf("an empty log: %s", w.Body)
	}
}

func TestEventsAreAStreamOfLines(t *testing.T) {
	ask := door(t, 600) // more than go out at once
	for _, accept := range []string{"", "*/*", "text/html, application/x-ndjson;q=0.5"} {
		w := ask("/v1/logs/activity/events?limit=500", accept)
		if n := bytes.Count(w.Body.Bytes(), []byte("\n")); w.Code != http.StatusOK || n != 500 || w.Header().Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("Accept %q: %d, %d lines of %s", accept, w.Code, n, w.Header().Get("Content-Type"))
		}
	}
	if w := ask("/v1/logs/activity/events?actor="+uuid.NewString(), ""); w.Code != http.StatusOK || w.Body.Len() != 0 {
		t.Errorf("nothing that fits: %d %s", w.Code, w.Body)
	}
}

func TestWhatMakesNoSenseIsNamed(t *testing.T) {
	ask := door(t, 1)
	for query, field := range map[string]string{
		"actor=me": "actor", "target=7": "target", "since=today": "since", "until=3": "until", "partition=x": "partition",
		"partition=2": "partition", "after=-1": "after", "after=3": "after", "limit=0": "limit", "limit=many": "limit",
	} {
		if w := ask("/v1/logs/activity/events?"+query, ""); w.Code != http.StatusUnprocessableEntity || !strings.Contains(w.Body.String(), `"field":"`+field+`"`) {
			t.Errorf("%s: %d %s", query, w.Code, w.Body)
		}
	}
	if w := ask("/v1/logs/nothing/events", ""); w.Code != http.StatusNotFound {
		t.Errorf("no such log: %d", w.Code)
	}
	w := ask("/v1/logs/activity/events", "text/html, text/csv;q=0")
	for _, offered := range []string{"application/x-ndjson", "text/csv", "application/vnd.apache.parquet"} {
		if w.Code != http.StatusNotAcceptable || !strings.Contains(w.Body.String(), offered) || w.Header().Get("Vary") != "Accept" {
			t.Errorf("another format: %d %s %v", w.Code, w.Body, w.Header())
		}
	}
}

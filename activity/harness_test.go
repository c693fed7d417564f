package activity_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/token"
)

// waitLimit ends a test whose condition never comes true.
const waitLimit = 10 * time.Second

// clock is a clock that stands still until it is told otherwise.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// world is a service on real logs in a file, with users to act on each other.
type world struct {
	testing.TB
	clock    *clock
	users    *log.Log
	log      *log.Log
	service  *activity.Service
	handler  http.Handler
	signer   *token.Signer
	versions map[uuid.UUID]uint64
}

type option func(*activity.Deps)

func newWorld(t testing.TB, options ...option) *world {
	t.Helper()
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t, clock: newClock(), versions: make(map[uuid.UUID]uint64)}
	w.users = openLog(t, db, events.UserLog, events.UserPartitions, w.clock)
	w.log = openLog(t, db, events.ActivityLog, events.ActivityPartitions, w.clock)
	t.Cleanup(func() {
		w.users.Close()
		w.log.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.signer, err = token.NewSigner(key); err != nil {
		t.Fatal(err)
	}
	deps := activity.Deps{
		Log: w.log, Users: w.users,
		Verifier: token.NewVerifier(token.NewStaticKeySet(w.signer.PublicKey()), w.clock.Now),
		Logger:   slog.New(slog.DiscardHandler),
		Clock:    w.clock.Now,
	}
	for _, o := range options {
		o(&deps)
	}
	if w.service, err = activity.New(activity.Config{}, deps); err != nil {
		t.Fatal(err)
	}
	w.handler = w.service.Handler()
	return w
}

func openLog(t testing.TB, db *boltlog.DB, name string, partitions int, c *clock) *log.Log {
	t.Helper()
	store, err := db.Log(name, partitions)
	if err != nil {
		t.Fatal(err)
	}
	return log.New(store, log.Options{Clock: c.Now})
}

// run runs the service until the test ends.
func (w *world) run() *world {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.service.Run(ctx) }()
	w.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
	})
	return w
}

func (w *world) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	w.Cleanup(cancel)
	return ctx
}

// tell appends an event to the user log.
func (w *world) tell(user uuid.UUID, eventType string, payload any) events.Event {
	w.Helper()
	data, err := json.Marshal(payload)
	if err != nil {
		w.Fatal(err)
	}
	w.versions[user]++
	e := events.Event{
		ID: uuid.New(), Type: eventType, Stream: user, Version: w.versions[user],
		OccurredAt: w.clock.Now(), Data: data,
	}
	if _, err := w.users.Append(w.context(), e); err != nil {
		w.Fatal(err)
	}
	return e
}

var joined = time.Date(2026, 2, 1, 8, 30, 0, 0, time.UTC)

func (w *world) newUser() uuid.UUID {
	w.Helper()
	id := uuid.New()
	w.tell(id, events.UserRegistered, events.Registration{Sealed: []byte("sealed"), JoinedAt: joined})
	return id
}

func (w *world) token(user uuid.UUID, roles ...string) string {
	w.Helper()
	raw, err := w.signer.Sign(token.Claims{
		Subject: user, Session: uuid.New(), Roles: roles,
		IssuedAt: w.clock.Now(), ExpiresAt: w.clock.Now().Add(time.Hour),
	})
	if err != nil {
		w.Fatal(err)
	}
	return raw
}

// ready asks the service's own checks, and not a remembered answer of them.
func (w *world) ready() bool {
	checks := health.New(nil)
	w.service.AddChecks(checks)
	return checks.Report(w.context()).Ready()
}

// post sends a body as JSON, or as x-ndjson to the batch route.
func (w *world) post(path, bearer, body string) *httptest.ResponseRecorder {
	w.Helper()
	contentType := "application/json"
	if strings.HasSuffix(path, "/batch") {
		contentType = "application/x-ndjson"
	}
	return w.send(path, bearer, contentType, body)
}

func (w *world) send(path, bearer, contentType, body string) *httptest.ResponseRecorder {
	w.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return rec
}

// reply is an answer, a problem or a line of a batch's answer.
type reply struct {
	Line       int       `json:"line"`
	Status     int       `json:"status"`
	ID         uuid.UUID `json:"id"`
	Type       string    `json:"type"`
	Actor      uuid.UUID `json:"actor"`
	Target     uuid.UUID `json:"target"`
	OccurredAt string    `json:"occurred_at"`
	RecordedAt string    `json:"recorded_at"`
	Partition  int       `json:"partition"`
	Sequence   uint64    `json:"sequence"`
	Title      string    `json:"title"`
	Detail     string    `json:"detail"`
	Errors     []struct{ Field, Message string }
}

func (r reply) fields() string {
	var names []string
	for _, e := range r.Errors {
		names = append(names, e.Field)
	}
	return strings.Join(names, " ")
}

func (w *world) reply(rec *httptest.ResponseRecorder, status int) reply {
	w.Helper()
	if rec.Code != status {
		w.Fatalf("status %d, want %d: %s", rec.Code, status, rec.Body)
	}
	var r reply
	if err := json.Unmarshal(rec.Body.Bytes(), &r); err != nil {
		w.Fatalf("%v in %s", err, rec.Body)
	}
	want := "application/json"
	if status >= 400 {
		want = "application/problem+json"
	}
	if got := rec.Header().Get("Content-Type"); got != want {
		w.Fatalf("Content-Type %q, want %q", got, want)
	}
	return r
}

func (w *world) replies(rec *httptest.ResponseRecorder) []reply {
	w.Helper()
	if rec.Code != http.StatusOK || rec.Header().Get("Content-Type") != "application/x-ndjson" {
		w.Fatalf("status %d, %s: %s", rec.Code, rec.Header(), rec.Body)
	}
	var out []reply
	for line := range bytes.Lines(rec.Body.Bytes()) {
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			w.Fatalf("%v in %s", err, line)
		}
		out = append(out, r)
		if r.Line != len(out) {
			w.Fatalf("line %d answers as %d", len(out), r.Line)
		}
	}
	return out
}

// recorded returns what is in the activity log.
func (w *world) recorded() []events.Recorded {
	w.Helper()
	var out []events.Recorded
	for p := range w.log.Partitions() {
		for e, err := range log.Events(w.context(), w.log, p, 0) {
			if err != nil {
				w.Fatal(err)
			}
			out = append(out, e)
		}
	}
	return out
}

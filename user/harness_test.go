package user_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/vault/boltvault"
	"github.com/meet5/backend/user"
)

// waitLimit ends a test whose condition never comes true.
const waitLimit = 20 * time.Second

// clock is a clock that stands still until it is told otherwise.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// world is a deployment on real files: logs, a vault, and a service.
type world struct {
	testing.TB
	folder  string
	clock   *clock
	users   log.Store
	log     *log.Log
	fraud   *log.Log
	acts    *log.Log
	vault   vault.Vault
	bolt    *boltvault.Vault
	service *user.Service
	issuer  string               // of the tokens, if it is not the usual one
	flags   map[uuid.UUID]uint64 // versions of the flags that decide wrote
}

type option func(*user.Config, *user.Deps)

func newWorld(t testing.TB, options ...option) *world {
	t.Helper()
	w := &world{TB: t, folder: t.TempDir(), flags: make(map[uuid.UUID]uint64),
		clock: &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 123_456_000, time.UTC)}}
	db, err := boltlog.Open(w.logPath())
	w.must(err)
	w.users, err = db.Log(events.UserLog, events.UserPartitions)
	w.must(err)
	fraud, err := db.Log(events.FraudLog, events.FraudPartitions)
	w.must(err)
	acts, err := db.Log(events.ActivityLog, events.ActivityPartitions)
	w.must(err)
	w.acts = log.New(acts, log.Options{Clock: w.clock.Now})
	w.bolt, err = boltvault.Open(w.vaultPath())
	w.must(err)
	w.vault = w.bolt
	w.log = log.New(w.users, log.Options{Clock: w.clock.Now})
	w.fraud = log.New(fraud, log.Options{Clock: w.clock.Now})
	t.Cleanup(func() {
		w.log.Close()
		w.fraud.Close()
		w.acts.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if err := w.bolt.Close(); err != nil {
			t.Error(err)
		}
	})
	w.service = w.instance(options...)
	return w
}

func (w *world) logPath() string   { return filepath.Join(w.folder, "log.db") }
func (w *world) vaultPath() string { return filepath.Join(w.folder, "user.db") }

// instance makes a service of this deployment.
func (w *world) instance(options ...option) *user.Service {
	w.Helper()
	cfg := user.Config{Idle: 10 * time.Millisecond}
	deps := user.Deps{
		Log: w.log, Fraud: w.fraud, Activity: w.acts, Vault: w.vault,
		Logger: slog.New(slog.DiscardHandler), Clock: w.clock.Now,
	}
	for _, o := range options {
		o(&cfg, &deps)
	}
	s, err := user.New(cfg, deps)
	w.must(err)
	return s
}

func withAdmin(cfg *user.Config, _ *user.Deps) {
	cfg.AdminEmail, cfg.AdminPassword = "root@example.org", "the admin's password"
}

// run runs a service until the test ends, or the function that it returns is
// called.
func (w *world) run(s *user.Service) (stop func()) {
	w.Helper()
	return w.background(s.Run)
}

func (w *world) background(run func(context.Context) error) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("Run: %v", err)
		}
	})
	w.Cleanup(stop)
	return stop
}

// eventually waits until a condition holds.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	deadline := time.Now().Add(waitLimit)
	for tick := time.NewTicker(5 * time.Millisecond); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			w.Fatalf("after %v still not: %s", waitLimit, what)
		}
	}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// request is one call of the API.
type request struct {
	method, path, bearer, body string
	headers                    map[string]string
}

type response struct {
	status int
	header http.Header
	raw    []byte
	body   map[string]any
}

// call sends a request to the world's service, with a JSON body unless its
// headers say otherwise.
func (w *world) call(r request) response {
	w.Helper()
	return w.callOn(w.service, r)
}

func (w *world) callOn(s *user.Service, r request) response {
	w.Helper()
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(r.body)
	}
	req := httptest.NewRequest(r.method, r.path, body)
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if r.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+r.bearer)
	}
	for k, v := range r.headers {
		req.Header.Set(k, v)
	}
	rec := httptest.NewRecorder()
	s.Handler().ServeHTTP(rec, req)
	out := response{status: rec.Code, header: rec.Header(), raw: rec.Body.Bytes()}
	if len(out.raw) > 0 {
		if err := json.Unmarshal(out.raw, &out.body); err != nil {
			w.Errorf("%s %s answers %d with %q: %v", r.method, r.path, rec.Code, out.raw, err)
		}
	}
	if rec.Code >= 400 {
		if got := rec.Header().Get("Content-Type"); got != "application/problem+json" {
			w.Errorf("%s %s answers %d as %q, want a problem", r.method, r.path, rec.Code, got)
		}
	}
	return out
}

// want ends the test unless the answer has a status.
func (w *world) want(status int, r response) response {
	w.Helper()
	if r.status != status {
		w.Fatalf("status %d with %s, want %d", r.status, r.raw, status)
	}
	return r
}

// fields are the fields that a problem names.
func (r response) fields() []string {
	var names []string
	list, _ := r.body["errors"].([]any)
	for _, e := range list {
		names = append(names, e.(map[string]any)["field"].(string))
	}
	return names
}

func (r response) text(field string) string {
	s, _ := r.body[field].(string)
	return s
}

const goodPassword = "correct horse battery"

// registration is a good body of POST /v1/users, but for the fields changed.
func registration(handle string, changes map[string]any) string {
	body := map[string]any{
		"handle": handle, "email": handle + "@example.org", "password": goodPassword,
		"display_name": "The person " + handle, "birth_date": "1990-05-06", "city": "Berlin", "about": "Hello",
	}
	for k, v := range changes {
		if v == nil {
			delete(body, k)
		} else {
			body[k] = v
		}
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// register makes a member and returns its ID.
func (w *world) register(handle string) uuid.UUID {
	w.Helper()
	r := w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users", body: registration(handle, nil)}))
	return uuid.MustParse(r.text("id"))
}

// tokens are what signing in gives.
type tokens struct{ access, refresh string }

func (w *world) signIn(login, password string) tokens {
	w.Helper()
	body := fmt.Sprintf(`{"login":%q,"password":%q}`, login, password)
	r := w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/sessions", body: body}))
	return tokens{r.text("access_token"), r.text("refresh_token")}
}

func (w *world) refresh(t tokens) response {
	w.Helper()
	return w.call(request{method: "POST", path: "/v1/sessions/refresh", body: fmt.Sprintf(`{"refresh_token":%q}`, t.refresh)})
}

func (w *world) mustRefresh(t tokens) tokens {
	w.Helper()
	r := w.want(http.StatusCreated, w.refresh(t))
	return tokens{r.text("access_token"), r.text("refresh_token")}
}

// admin runs the service, whose first admin signs in.
func (w *world) admin() tokens {
	w.Helper()
	w.run(w.service)
	w.eventually("the admin is there", func() bool {
		return w.readiness(w.service).Checks["user-start"].Status == "ok"
	})
	return w.signIn("admin", "the admin's password")
}

func (w *world) setRoles(admin tokens, id uuid.UUID, roles ...string) response {
	w.Helper()
	body, err := json.Marshal(map[string]any{"roles": append([]string{}, roles...)})
	w.must(err)
	return w.call(request{method: "POST", path: "/v1/admin/users/" + id.String() + "/roles", bearer: admin.access, body: string(body)})
}

// claims are what the service's own keys say of a token.
func (w *world) claims(access string) token.Claims {
	w.Helper()
	c, err := token.NewVerifier(w.service.KeySet(), w.clock.Now, w.issuer).Verify(w.Context(), access)
	w.must(err)
	return c
}

// forge makes an admin's token that is good but for its key.
func (w *world) forge() string {
	w.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	w.must(err)
	signer, err := token.NewSigner(key)
	w.must(err)
	raw, err := signer.Sign(token.Claims{Subject: uuid.New(), Session: uuid.New(), Roles: []string{"admin", "moderator"},
		IssuedAt: w.clock.Now(), ExpiresAt: w.clock.Now().Add(time.Minute)})
	w.must(err)
	return raw
}

// readiness asks a service for what it needs, without the memory that a
// health.Registry has.
func (w *world) readiness(s *user.Service) health.Report {
	checks := health.New(nil)
	s.AddChecks(checks)
	return checks.Report(w.Context())
}

// stream is what the log holds of a user.
func (w *world) stream(id uuid.UUID) []events.Recorded {
	w.Helper()
	evs, err := log.ReadStream(w.Context(), w.log, id)
	w.must(err)
	return evs
}

func types(evs []events.Recorded) (names []string) {
	for _, e := range evs {
		names = append(names, e.Type)
	}
	return names
}

// decide appends a decision on a flag to the fraud log, and returns its ID.
func (w *world) decide(eventType string, flag, id uuid.UUID) uuid.UUID {
	w.Helper()
	data, err := json.Marshal(events.Decision{User: id, Rule: "meet5", By: uuid.New()})
	w.must(err)
	return w.appendDecision(eventType, flag, data)
}

func (w *world) appendUndone(flag uuid.UUID, u events.UndoneDecision) {
	w.Helper()
	data, err := json.Marshal(u)
	w.must(err)
	w.appendDecision(events.DecisionUndone, flag, data)
}

func (w *world) appendDecision(eventType string, flag uuid.UUID, data []byte) uuid.UUID {
	w.Helper()
	w.flags[flag]++
	e := events.Event{ID: uuid.New(), Type: eventType, Stream: flag, Version: w.flags[flag], OccurredAt: w.clock.Now(), Data: data}
	_, err := w.fraud.Append(w.Context(), e)
	w.must(err)
	return e.ID
}

// amnesia is a vault whose ledger is each instance's own, and empty at first.
type amnesia struct{ vault.Vault }

func (amnesia) Ledger() subscription.Ledger { return subscription.NewMemory() }

// ownLedger makes an instance begin at the start of every log, and learn nothing
// of how far others are.
func ownLedger(_ *user.Config, d *user.Deps) { d.Vault = amnesia{d.Vault} }

func (w *world) catchUp() {
	w.Helper()
	ctx, cancel := context.WithTimeout(w.Context(), waitLimit)
	defer cancel()
	w.must(w.service.CatchUp(ctx))
}

func (w *world) contents(path string) []byte {
	w.Helper()
	raw, err := os.ReadFile(path)
	w.must(err)
	return raw
}

func (w *world) unbase64(s string) []byte {
	w.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(s), "="))
	w.must(err)
	return b
}

func (w *world) base64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// golden compares an answer with a file, after what differs each time was
// replaced. UPDATE_GOLDEN=1 writes the file.
func (w *world) golden(name string, r response, replace map[string]string) {
	w.Helper()
	var b bytes.Buffer
	w.must(json.Indent(&b, r.raw, "", "  "))
	got := strings.TrimRight(b.String(), "\n") + "\n"
	for from, to := range replace {
		got = strings.ReplaceAll(got, from, to)
	}
	path := filepath.Join("testdata", name+".json")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		w.must(os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	w.must(err)
	if diff := cmp.Diff(string(want), got); diff != "" {
		w.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func equal[T any](t testing.TB, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

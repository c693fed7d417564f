package gateway_test

import (
	"crypto/ed25519"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/token"
)

// house is a gateway with services of the test's own behind it, in this process.
type house struct {
	t      testing.TB
	signer *token.Signer
	clock  *clock

	user, activity, fraud, projections *upstream

	gateway  *gateway.Gateway
	verifier *token.Verifier
	handler  http.Handler
}

// clock is set by hand.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

// upstream is a service that notes what reaches it. Without an answer of the
// test's it says its name and the path.
type upstream struct {
	name string

	mu     sync.Mutex
	seen   []*http.Request
	answer http.HandlerFunc
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u.mu.Lock()
	u.seen = append(u.seen, r)
	answer := u.answer
	u.mu.Unlock()
	if answer != nil {
		answer(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(w, u.name+" "+r.Method+" "+r.URL.RequestURI())
}

func (u *upstream) requests() []*http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]*http.Request(nil), u.seen...)
}

// newHouse makes a house. A change may put other upstreams in place.
func newHouse(t testing.TB, cfg gateway.Config, changes ...func(*gateway.Deps)) *house {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, clock: &clock{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)},
		user: &upstream{name: "user"}, activity: &upstream{name: "activity"},
		fraud: &upstream{name: "fraud"}, projections: &upstream{name: "projections"}}
	if h.signer, err = token.NewSigner(key); err != nil {
		t.Fatal(err)
	}
	keys := token.StaticKeySet{h.signer.KeyID(): h.signer.PublicKey()}
	deps := gateway.Deps{
		Verifier:  token.NewVerifier(keys, h.clock.now),
		Upstreams: gateway.Upstreams{User: h.user, Activity: h.activity, Fraud: h.fraud, Projections: h.projections},
		Clock:     h.clock.now,
	}
	h.verifier = deps.Verifier
	for _, change := range changes {
		change(&deps)
	}
	g, err := gateway.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	h.gateway, h.handler = g, g.Handler()
	return h
}

// bearer is a token of a user with roles.
func (h *house) bearer(user uuid.UUID, roles ...string) string {
	h.t.Helper()
	raw, err := h.signer.Sign(token.Claims{Subject: user, Session: uuid.New(), Roles: roles,
		IssuedAt: h.clock.now(), ExpiresAt: h.clock.now().Add(12 * time.Hour)})
	if err != nil {
		h.t.Fatal(err)
	}
	return "Bearer " + raw
}

type with func(*http.Request)

func header(name, value string) with { return func(r *http.Request) { r.Header.Add(name, value) } }

func from(addr string) with { return func(r *http.Request) { r.RemoteAddr = addr } }

// do sends a request, target as it stands in the request line.
func (h *house) do(method, target, body string, changes ...with) *httptest.ResponseRecorder {
	h.t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body == "" {
		r.Body, r.ContentLength = http.NoBody, 0
	}
	r.RemoteAddr = "192.0.2.7:4711"
	for _, change := range changes {
		change(r)
	}
	rec := httptest.NewRecorder()
	h.handler.ServeHTTP(rec, r)
	return rec
}

func (h *house) wantProblem(rec *httptest.ResponseRecorder, status int) {
	h.t.Helper()
	var p struct {
		Type, Title string
		Status      int
	}
	if rec.Code != status || rec.Header().Get("Content-Type") != "application/problem+json" {
		h.t.Fatalf("got %d %s, want a problem of status %d: %s", rec.Code, rec.Header().Get("Content-Type"), status, rec.Body)
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &p); err != nil || p.Status != status || p.Type == "" || p.Title == "" {
		h.t.Fatalf("not a whole problem (%v): %s", err, rec.Body)
	}
}

// nobodyAsked fails if a request got past the door.
func (h *house) nobodyAsked() {
	h.t.Helper()
	for _, u := range []*upstream{h.user, h.activity, h.fraud, h.projections} {
		if n := len(u.requests()); n > 0 {
			h.t.Errorf("%d requests reached %s", n, u.name)
		}
	}
}

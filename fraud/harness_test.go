package fraud_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/side/boltside"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/vault/boltvault"
)

// waitLimit ends a test whose condition never comes true.
const waitLimit = 30 * time.Second

var start = time.Date(2026, 3, 1, 12, 0, 0, 123456000, time.UTC)

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

func (c *clock) Set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

// world is real logs and side data in files, on which services can be started.
type world struct {
	testing.TB
	clock    *clock
	db       *boltlog.DB
	activity *log.Log
	reader   log.Reader // of the activity log, for services that are started next
	fraud    *log.Log
	users    *log.Log
	side     *boltside.DB
	keys     *boltvault.Vault
	vault    vault.Vault // of services that are started next
	dir      string
	signer   *token.Signer
	metrics  *prometheus.Registry // of services that are started next; none if nil
	// snapshots are those of services that are started next; none if nil.
	snapshots fraud.Snapshots
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, clock: &clock{now: start}}
	dir := t.TempDir()
	w.dir = dir
	var err error
	if w.db, err = boltlog.Open(filepath.Join(dir, "log.db")); err != nil {
		t.Fatal(err)
	}
	if w.side, err = boltside.Open(filepath.Join(dir, "fraud.db")); err != nil {
		t.Fatal(err)
	}
	if w.keys, err = boltvault.Open(filepath.Join(dir, "fraud-keys.db")); err != nil {
		t.Fatal(err)
	}
	w.vault = w.keys
	w.users = w.openLog(events.UserLog, events.UserPartitions)
	w.activity = w.openLog(events.ActivityLog, events.ActivityPartitions)
	w.reader = w.activity
	w.fraud = w.openLog(events.FraudLog, events.FraudPartitions)
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if w.signer, err = token.NewSigner(key); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.db.Close(); err != nil {
			t.Error(err)
		}
		if err := w.side.Close(); err != nil {
			t.Error(err)
		}
		if err := w.keys.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) openLog(name string, partitions int) *log.Log {
	w.Helper()
	store, err := w.db.Log(name, partitions)
	if err != nil {
		w.Fatal(err)
	}
	l := log.New(store, log.Options{Clock: w.clock.Now})
	w.Cleanup(l.Close)
	return l
}

// running is a service that runs.
type running struct {
	*world
	service *fraud.Service
	stop    func()
}

// run starts a service with these rules, those of the rule book if there are
// none.
func (w *world) run(rules ...rule.Rule) *running {
	w.Helper()
	return w.runOn(w.fraud, w.side.Ledger(), rules...)
}

func (w *world) runOn(l *log.Log, ledger subscription.Ledger, rules ...rule.Rule) *running {
	w.Helper()
	return w.runWith(fraud.Config{Rules: rules}, l, ledger)
}

func (w *world) runWith(cfg fraud.Config, l *log.Log, ledger subscription.Ledger) *running {
	w.Helper()
	s, err := fraud.New(cfg, fraud.Deps{
		Log: l, Activity: w.reader, Users: w.users, Vault: w.vault, Ledger: ledger, Snapshots: w.snapshots, Labels: w.side, Clock: w.clock.Now,
		Verifier: token.NewVerifier(token.NewStaticKeySet(w.signer.PublicKey()), w.clock.Now), Metrics: w.metrics,
		Logger: slog.New(slog.NewTextHandler(w.Output(), &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	r := &running{world: w, service: s}
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			w.Errorf("run: %v", err)
		}
	})
	w.Cleanup(r.stop)
	r.catchUp()
	return r
}

// statuses is how a group's subscription stands.
func (r *running) statuses(group string) []subscription.Status {
	r.Helper()
	for _, s := range r.service.Subscriptions() {
		if s.Group() == group {
			return s.Status()
		}
	}
	r.Fatalf("there is no group %s", group)
	return nil
}

// parked is how many events are parked.
func (r *running) parked(group string) (n int) {
	r.Helper()
	for _, s := range r.statuses(group) {
		n += s.Parked
	}
	return n
}

// failures is how often a partition has failed in a row, of the one that has most.
func (r *running) failures(group string) (most int) {
	r.Helper()
	for _, s := range r.statuses(group) {
		most = max(most, s.Failures)
	}
	return most
}

// catchUp waits until everything in the logs has been worked through.
func (r *running) catchUp() {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), waitLimit)
	defer cancel()
	if err := r.service.CatchUp(ctx); err != nil {
		r.Fatal(err)
	}
}

// act is what one user does to another.
type act struct {
	actor  uuid.UUID
	joined time.Time
	kind   rule.Kind
	target uuid.UUID
	at     time.Time
	member bool // posted by a member: it is judged by the log's clock
}

func (a act) event() events.Event {
	return events.Event{
		ID: uuid.New(), Type: a.kind.EventType(), Stream: a.actor, OccurredAt: a.at,
		Data: events.Activity{Target: a.target, JoinedAt: a.joined, Trusted: !a.member}.AppendJSON(nil),
	}
}

// post appends what a trusted source says happened, all of one actor.
func (w *world) post(acts ...act) {
	w.Helper()
	evs := make([]events.Event, len(acts))
	for i, a := range acts {
		evs[i] = a.event()
	}
	if _, err := w.activity.Append(w.Context(), evs...); err != nil {
		w.Fatal(err)
	}
}

// spree is an account that visits and then likes so many others, evenly spread
// from its first second to a moment after joining.
func spree(actor uuid.UUID, joined time.Time, targets int, last time.Duration) (acts []act) {
	n := 2 * targets
	for i := range n {
		a := act{actor: actor, joined: joined, kind: rule.Visit, target: person(i % targets)}
		if i >= targets {
			a.kind = rule.Like
		}
		a.at = joined.Add(time.Second + time.Duration(i)*(last-time.Second)/time.Duration(n-1))
		acts = append(acts, a)
	}
	return acts
}

// person is somebody to visit.
func person(n int) uuid.UUID { return uuid.NewSHA1(uuid.UUID{7}, []byte{byte(n), byte(n >> 8)}) }

// user makes the n-th account that does something.
func user(n int) uuid.UUID { return uuid.NewSHA1(uuid.UUID{8}, []byte{byte(n), byte(n >> 8)}) }

// answer is what a request came back with.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// into reads the answer's JSON.
func (a answer) into(t testing.TB, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%s: %v", a.body, err)
	}
}

// ask sends a request as a user with roles. body is JSON, none if empty.
func (r *running) ask(method, path, body string, as uuid.UUID, roles ...string) answer {
	r.Helper()
	return r.askWith(method, path, body, nil, as, roles...)
}

func (r *running) askWith(method, path, body string, header map[string]string, as uuid.UUID, roles ...string) answer {
	r.Helper()
	raw, err := r.signer.Sign(token.Claims{
		Subject: as, Session: uuid.New(), Roles: roles,
		IssuedAt: r.clock.Now(), ExpiresAt: r.clock.Now().Add(24 * time.Hour), // the clock may be set meanwhile
	})
	if err != nil {
		r.Fatal(err)
	}
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req := httptest.NewRequestWithContext(r.Context(), method, path, reader)
	req.Header.Set("Authorization", "Bearer "+raw)
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	rec := httptest.NewRecorder()
	r.service.Handler().ServeHTTP(rec, req)
	return answer{rec.Code, rec.Header(), bytes.Clone(rec.Body.Bytes())}
}

var moderator = uuid.UUID{0x0d, 1}

// flagged is a flag in an answer.
type flagged struct {
	ID            uuid.UUID  `json:"id"`
	User          uuid.UUID  `json:"user"`
	Rule          string     `json:"rule"`
	RuleVersion   string     `json:"rule_version"`
	State         string     `json:"state"`
	Escalated     bool       `json:"escalated"`
	Score         int        `json:"score"`
	Observed      float64    `json:"observed"`
	Threshold     float64    `json:"threshold"`
	RaisedAt      string     `json:"raised_at"`
	EvidenceCount int        `json:"evidence_count"`
	Assignee      *uuid.UUID `json:"assignee"`
	Evidence      []struct {
		EventID    uuid.UUID `json:"event_id"`
		Actor      uuid.UUID `json:"actor"`
		Type       string    `json:"type"`
		Target     uuid.UUID `json:"target"`
		OccurredAt string    `json:"occurred_at"`
	} `json:"evidence"`
	History []struct {
		At, Type, Note, Undoes string
		By, Assignee, Bulk     *uuid.UUID
		Erased                 bool
	} `json:"history"`
	Notes []struct {
		At, Text string
		By       *uuid.UUID
		Erased   bool
	} `json:"notes"`
	ExpiresAt string `json:"expires_at"`
}

// flags lists the flags that a query finds, and where the next page begins.
func (r *running) flags(query string) (items []flagged, next string) {
	r.Helper()
	a := r.ask("GET", "/v1/moderation/flags"+query, "", moderator, "moderator")
	if a.status != http.StatusOK {
		r.Fatalf("list flags %s: %d %s", query, a.status, a.body)
	}
	var page struct {
		Items []flagged
		Next  string
	}
	a.into(r, &page)
	return page.Items, page.Next
}

func (r *running) flag(id uuid.UUID) flagged {
	r.Helper()
	a := r.ask("GET", "/v1/moderation/flags/"+id.String(), "", moderator, "moderator")
	if a.status != http.StatusOK {
		r.Fatalf("show flag: %d %s", a.status, a.body)
	}
	var f flagged
	a.into(r, &f)
	return f
}

// fraudEvents reads a fraud log's events of a type, all if it is empty.
func (w *world) fraudEvents(l *log.Log, eventType string) (out []events.Recorded) {
	w.Helper()
	for e, err := range log.Events(w.Context(), l, 0, 0) {
		if err != nil {
			w.Fatal(err)
		}
		if eventType == "" || e.Type == eventType {
			out = append(out, e)
		}
	}
	return out
}

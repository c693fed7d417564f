package operate_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
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
	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/inproc"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/operate"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	anna = uuid.UUID{1}
	bert = uuid.UUID{2}
)

// house is a service with one subscription, to whose handler bert's events are
// poison until it is healed.
type house struct {
	t      *testing.T
	log    *log.Log
	source operate.Source
	server *echo.Echo
	signer *token.Signer

	mu   sync.Mutex
	ill  bool
	seen []uint64
}

func newHouse(t *testing.T) *house {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, 1)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{t: t, log: log.New(store, log.Options{}), ill: true}
	sub := subscription.New(subscription.Config{
		Log: h.log, Group: "views", Idle: time.Millisecond, Handler: h.handle,
		Ledger: subscription.NewMemory(), Logger: slog.New(slog.DiscardHandler),
	})
	h.source = func() []*subscription.Subscription { return []*subscription.Subscription{sub} }
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.signer, err = token.NewSigner(private); err != nil {
		t.Fatal(err)
	}
	h.server = web.New(web.Options{Service: "test", Logger: slog.New(slog.DiscardHandler)})
	h.source.Mount(h.server, "test", token.NewVerifier(token.StaticKeySet{h.signer.KeyID(): public}, time.Now))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := sub.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
		h.log.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *house) handle(_ context.Context, b subscription.Batch) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range b.Events {
		if h.ill && e.Stream == bert {
			return subscription.Poison(e, errors.New("no such profile"))
		}
	}
	for _, e := range b.Events {
		h.seen = append(h.seen, e.Sequence)
	}
	return nil
}

func (h *house) heal() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ill = false
}

func (h *house) append(streams ...uuid.UUID) {
	h.t.Helper()
	for _, s := range streams {
		if _, err := h.log.Append(h.t.Context(), events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: s, OccurredAt: time.Unix(1, 0),
			Data: events.Activity{Target: anna}.AppendJSON(nil),
		}); err != nil {
			h.t.Fatal(err)
		}
	}
	if err := h.source()[0].CatchUp(h.t.Context()); err != nil {
		h.t.Fatal(err)
	}
}

type object = map[string]any

func (h *house) ask(method, path string, roles ...string) (status int, body object) {
	h.t.Helper()
	req := httptest.NewRequest(method, path, nil)
	if roles != nil {
		raw, err := h.signer.Sign(token.Claims{
			Subject: anna, Session: uuid.New(), Roles: roles, IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute),
		})
		if err != nil {
			h.t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+raw)
	}
	w := httptest.NewRecorder()
	h.server.ServeHTTP(w, req)
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		h.t.Fatalf("%s %s: %d %s", method, path, w.Code, w.Body)
	}
	return w.Code, body
}

func (h *house) items(path string) []object {
	h.t.Helper()
	status, body := h.ask("GET", path, token.RoleAdmin)
	if status != http.StatusOK {
		h.t.Fatalf("GET %s: %d %v", path, status, body)
	}
	var items []object
	for _, i := range body["items"].([]any) {
		items = append(items, i.(object))
	}
	return items
}

func TestOperatorsListInspectRetryAndDropWhatIsParked(t *testing.T) {
	h := newHouse(t)
	h.append(anna, bert, bert)
	items := h.items("/v1/admin/test/parked")
	if len(items) != 2 {
		t.Fatalf("parked: %v, want two", items)
	}
	first, second := items[0], items[1]
	if first["id"] != "views.activity.0.2" || first["key"] != bert.String() ||
		!strings.Contains(first["reason"].(string), "no such profile") || first["waits_behind"] != nil {
		t.Errorf("the first is %v", first)
	}
	if second["waits_behind"] != first["id"] || second["reason"] != nil {
		t.Errorf("the second is %v", second)
	}
	status, one := h.ask("GET", "/v1/admin/test/parked/views.activity.0.2", token.RoleAdmin)
	if content, ok := one["content"].(object); status != 200 || !ok || content["subject"] != bert.String() || content["type"] != events.ProfileVisited {
		t.Errorf("GET one: %d %v", status, one)
	}
	if status, body := h.ask("POST", "/v1/admin/test/parked/views.activity.0.3/retry", token.RoleAdmin); status != http.StatusConflict {
		t.Errorf("retry what waits: %d %v", status, body)
	}

	h.heal()
	if status, body := h.ask("POST", "/v1/admin/test/parked/views.activity.0.2/retry", token.RoleAdmin); status != http.StatusAccepted || body["order"] != "retry" {
		t.Errorf("retry: %d %v", status, body)
	}
	for len(h.items("/v1/admin/test/parked")) > 0 {
		time.Sleep(time.Millisecond)
	}
	h.mu.Lock()
	if n := len(h.seen); n != 3 {
		t.Errorf("handled %v, want three", h.seen)
	}
	h.ill = true
	h.mu.Unlock()
	if status, _ := h.ask("POST", "/v1/admin/test/parked/views.activity.0.2/drop", token.RoleAdmin); status != http.StatusNotFound {
		t.Errorf("drop what is parked no more: %d", status)
	}
	h.append(bert)
	if status, body := h.ask("POST", "/v1/admin/test/parked/views.activity.0.4/drop", token.RoleAdmin); status != http.StatusAccepted {
		t.Errorf("drop: %d %v", status, body)
	}
	for len(h.items("/v1/admin/test/parked")) > 0 {
		time.Sleep(time.Millisecond)
	}
}

func TestParkedIsForAdminsOnly(t *testing.T) {
	h := newHouse(t)
	h.append(bert)
	for _, one := range []struct{ method, path string }{
		{"GET", "/v1/admin/test/subscriptions"},
		{"GET", "/v1/admin/test/parked"},
		{"GET", "/v1/admin/test/parked/views.activity.0.1"},
		{"POST", "/v1/admin/test/parked/views.activity.0.1/retry"},
		{"POST", "/v1/admin/test/parked/views.activity.0.1/drop"},
	} {
		if status, _ := h.ask(one.method, one.path); status != http.StatusUnauthorized {
			t.Errorf("%s %s without a token: %d", one.method, one.path, status)
		}
		if status, _ := h.ask(one.method, one.path, token.RoleModerator, token.RoleAnalyst); status != http.StatusForbidden {
			t.Errorf("%s %s of a moderator: %d", one.method, one.path, status)
		}
	}
	if n := len(h.items("/v1/admin/test/parked")); n != 1 {
		t.Errorf("%d parked, want one", n)
	}
}

func TestListsOfWhatIsParkedArePagedAndFiltered(t *testing.T) {
	h := newHouse(t)
	h.append(bert, bert, bert, anna, bert, bert)
	var all []string
	path := "/v1/admin/test/parked?limit=2"
	for range 10 {
		_, body := h.ask("GET", path, token.RoleAdmin)
		for _, i := range body["items"].([]any) {
			all = append(all, i.(object)["id"].(string))
		}
		next, more := body["next"].(string)
		if !more {
			break
		}
		path = "/v1/admin/test/parked?limit=2&cursor=" + next
	}
	if got := strings.Join(all, " "); got != "views.activity.0.1 views.activity.0.2 views.activity.0.3 views.activity.0.5 views.activity.0.6" {
		t.Errorf("pages: %s", got)
	}
	for query, want := range map[string]int{"?group=views": 5, "?group=other": 0, "?log=user": 0, "?key=" + bert.String(): 5, "?key=" + anna.String(): 0} {
		if n := len(h.items("/v1/admin/test/parked" + query)); n != want {
			t.Errorf("%s: %d, want %d", query, n, want)
		}
	}
	for _, id := range []string{"x", "views.activity.0", "views.activity.0.x", "views.activity.99.1", "other.activity.0.1"} {
		if status, _ := h.ask("GET", "/v1/admin/test/parked/"+id, token.RoleAdmin); status != http.StatusNotFound {
			t.Errorf("%s: %d, want 404", id, status)
		}
	}
}

func TestProgressShowsOverHTTPInMetricsAndInReadiness(t *testing.T) {
	h := newHouse(t)
	h.append(anna, bert)
	items := h.items("/v1/admin/test/subscriptions")
	if len(items) != 1 || items[0]["group"] != "views" || items[0]["position"] != 2.0 || items[0]["head"] != 2.0 || items[0]["lag"] != 0.0 || items[0]["parked"] != 1.0 {
		t.Errorf("subscriptions: %v", items)
	}
	for !h.source.Statuses()[0].CaughtUp {
		time.Sleep(time.Millisecond)
	}
	if detail, err := h.source.Check()(t.Context()); err != nil {
		t.Errorf("not ready: %v %v", detail, err)
	}
	r := metrics.NewRegistry()
	if err := errors.Join(h.source.Register(r, "test"), h.source.Register(r, "again")); err != nil {
		t.Fatal(err)
	}
	pub := inproc.New(inproc.Config{})
	defer func() { _ = pub.Close() }()
	traffic := operate.Bus{Feed: bus.NewFeed(pub, bus.FeedOptions{}), Rejected: func() uint64 { return 7 }}
	if err := traffic.Register(r); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	metrics.Handler(r).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(w.Body)
	if err != nil || w.Code != http.StatusOK {
		t.Fatalf("metrics: %d %v %s", w.Code, err, text)
	}
	for _, line := range []string{
		`meet5_subscription_head{group="views",log="activity",partition="0",service="test"} 2`,
		`meet5_subscription_parked{group="views",log="activity",partition="0",service="again"} 1`,
		`meet5_subscription_stalled{group="views",log="activity",partition="0",service="test"} 0`,
		`meet5_bus_commits_total{outcome="dropped"} 0`,
		`meet5_bus_commits_total{outcome="rejected"} 7`,
	} {
		if !strings.Contains(string(text), line) {
			t.Errorf("metrics lack %s", line)
		}
	}
}

// What stands still makes the service unready, and what is shown names no hosts.
func TestAStandingSubscriptionMakesTheServiceUnready(t *testing.T) {
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, 1)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store, log.Options{})
	var mu sync.Mutex
	now := time.Now()
	sub := subscription.New(subscription.Config{
		Log: l, Group: "views", Idle: time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		Clock:   func() time.Time { mu.Lock(); defer mu.Unlock(); return now },
		Handler: func(context.Context, subscription.Batch) error { return errors.New("dial tcp 10.0.0.7:27017: refused") },
	})
	source := operate.Source(func() []*subscription.Subscription { return []*subscription.Subscription{sub} })
	if _, err := source.Check()(t.Context()); err == nil {
		t.Error("ready before it has caught up")
	}
	if _, err := l.Append(t.Context(), events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: anna, OccurredAt: now, Data: []byte("{}")}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- sub.Run(ctx) }()
	for source.Statuses()[0].Failures == 0 {
		time.Sleep(time.Millisecond)
	}
	mu.Lock()
	now = now.Add(7 * time.Second)
	mu.Unlock()
	detail, err := source.Check()(t.Context())
	if err == nil || !strings.Contains(err.Error(), "stands still at 0 of 1") {
		t.Errorf("err = %v, want that it stands still", err)
	}
	shown, marshalErr := json.Marshal(detail)
	if marshalErr != nil || strings.Contains(string(shown), "10.0.0.7") || !strings.Contains(string(shown), "handle a batch") {
		t.Errorf("shown: %s, %v", shown, marshalErr)
	}
	cancel()
	if err := errors.Join(<-done); err != nil {
		t.Error(err)
	}
	l.Close()
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

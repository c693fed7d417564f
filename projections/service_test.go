package projections_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/projections"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/token"
)

// waitLimit ends a test whose condition never comes true.
const waitLimit = 30 * time.Second

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC)

// house is the service on a log in a file, and people with tokens.
type house struct {
	testing.TB
	ctx     context.Context
	log     *log.Log
	service *projections.Service
	signer  *token.Signer
}

func newHouse(t testing.TB, store views.Store) *house {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitLimit)
	t.Cleanup(cancel)
	db, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := db.Log(events.ActivityLog, events.ActivityPartitions)
	if err != nil {
		t.Fatal(err)
	}
	h := &house{TB: t, ctx: ctx, log: log.New(file, log.Options{Clock: func() time.Time { return epoch.Add(time.Hour) }})}
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if h.signer, err = token.NewSigner(private); err != nil {
		t.Fatal(err)
	}
	h.service, err = projections.New(projections.Config{}, projections.Deps{
		Activity: h.log, Logs: []log.Reader{h.log}, Store: store,
		Verifier: token.NewVerifier(token.StaticKeySet{h.signer.KeyID(): public}, time.Now),
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.log.Close()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

// run has the service follow the log for the rest of the test.
func (h *house) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := h.service.Run(ctx); err != nil {
			h.Error(err)
		}
	})
	h.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// append writes events of one actor, so many seconds after epoch.
func (h *house) append(kind string, actor, target uuid.UUID, seconds ...int) {
	h.Helper()
	var evs []events.Event
	for _, s := range seconds {
		at := epoch.Add(time.Duration(s) * time.Second)
		evs = append(evs, events.Event{
			ID: uuid.New(), Type: kind, Stream: actor, OccurredAt: at,
			Data: events.Activity{Target: target, JoinedAt: epoch}.AppendJSON(nil),
		})
	}
	if _, err := h.log.Append(h.ctx, evs...); err != nil {
		h.Fatal(err)
	}
}

func (h *house) catchUp() {
	h.Helper()
	if err := h.service.CatchUp(h.ctx); err != nil {
		h.Fatal(err)
	}
}

// becomesReady waits until /readyz says so, which repeats an answer for a second.
func (h *house) becomesReady() {
	h.Helper()
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for {
		w := httptest.NewRecorder()
		h.service.Handler().ServeHTTP(w, httptest.NewRequestWithContext(h.ctx, http.MethodGet, "/readyz", nil))
		if w.Code == http.StatusOK {
			return
		}
		select {
		case <-again.C:
		case <-h.ctx.Done():
			h.Fatalf("not ready: %s", w.Body)
		}
	}
}

func (h *house) token(user uuid.UUID, roles ...string) string {
	h.Helper()
	now := time.Now()
	raw, err := h.signer.Sign(token.Claims{Subject: user, Session: uuid.New(), Roles: roles, IssuedAt: now, ExpiresAt: now.Add(time.Hour)})
	if err != nil {
		h.Fatal(err)
	}
	return raw
}

// get asks and decodes the answer, which must have the status.
func get[T any](h *house, bearer, path string, status int) (body T, header http.Header) {
	h.Helper()
	r := httptest.NewRequestWithContext(h.ctx, http.MethodGet, path, nil)
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	w := httptest.NewRecorder()
	h.service.Handler().ServeHTTP(w, r)
	raw, err := io.ReadAll(w.Result().Body)
	if err != nil {
		h.Fatal(err)
	}
	if w.Code != status {
		h.Fatalf("GET %s: %d, want %d: %s", path, w.Code, status, raw)
	}
	if err := json.Unmarshal(raw, &body); err != nil {
		h.Fatalf("GET %s: %v: %s", path, err, raw)
	}
	return body, w.Header()
}

type object = map[string]any

type page struct {
	Items []object `json:"items"`
	Next  string   `json:"next"`
}

func TestListsAndNumbersOfAMember(t *testing.T) {
	h := newHouse(t, memstore.New())
	h.run()
	anna, bert := uuid.New(), uuid.New()
	h.append(events.ProfileVisited, bert, anna, 5, 2)
	h.append(events.ProfileLiked, bert, anna, 7)
	h.append(events.ProfileLiked, anna, bert, 9)
	h.catchUp()
	toBert, toAnna := object{"id": bert.String()}, object{"id": anna.String()}
	visits := func(user object) []object {
		return []object{{"user": user, "count": 2.0, "first_at": "2026-03-04T05:06:09.000089Z", "last_at": "2026-03-04T05:06:12.000089Z"}}
	}
	like := func(user object, at string) []object { return []object{{"user": user, "at": at}} }
	const seventh, ninth = "2026-03-04T05:06:14.000089Z", "2026-03-04T05:06:16.000089Z"
	for _, c := range []struct {
		who  uuid.UUID
		path string
		want []object
	}{
		{anna, "visitors", visits(toBert)},
		{anna, "visits", []object{}},
		{bert, "visits", visits(toAnna)},
		{anna, "likes/received", like(toBert, seventh)},
		{bert, "likes/given", like(toAnna, seventh)},
		{anna, "likes/given", like(toBert, ninth)},
		{anna, "matches", like(toBert, ninth)},
		{bert, "matches", like(toAnna, ninth)},
	} {
		got, _ := get[page](h, h.token(c.who), "/v1/me/"+c.path, http.StatusOK)
		if diff := cmp.Diff(page{Items: c.want}, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.path, diff)
		}
	}
	got, _ := get[object](h, h.token(anna), "/v1/me/stats", http.StatusOK)
	want := object{"visits_received": 2.0, "unique_visitors": 1.0, "likes_received": 1.0, "likes_given": 1.0, "matches": 1.0}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stats: -want +got\n%s", diff)
	}
	got, _ = get[object](h, h.token(uuid.New(), token.RoleModerator), "/internal/users/"+anna.String()+"/stats", http.StatusOK)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("stats to a moderator: -want +got\n%s", diff)
	}
}

func TestAListIsReadPageByPage(t *testing.T) {
	h := newHouse(t, memstore.New())
	h.run()
	anna := uuid.New()
	var want []string
	for i := range 7 {
		visitor := uuid.New()
		h.append(events.ProfileVisited, visitor, anna, 100-i)
		want = append(want, visitor.String())
	}
	h.catchUp()
	var got []string
	for path := "/v1/me/visitors?limit=3"; path != ""; {
		p, header := get[page](h, h.token(anna), path, http.StatusOK)
		for _, item := range p.Items {
			got = append(got, item["user"].(object)["id"].(string))
		}
		path = ""
		if p.Next != "" {
			link, _, _ := strings.Cut(strings.TrimPrefix(header.Get("Link"), "<"), ">")
			if path = link; !strings.Contains(link, "limit=3") || !strings.Contains(link, p.Next) {
				t.Fatalf("link %q does not lead to the next page %q", link, p.Next)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestWhatIsRefused(t *testing.T) {
	h := newHouse(t, memstore.New())
	h.run()
	anna, bert := uuid.New(), uuid.New()
	for range 2 {
		h.append(events.ProfileVisited, uuid.New(), anna, 1)
	}
	h.catchUp()
	first, _ := get[page](h, h.token(anna), "/v1/me/visitors?limit=1", http.StatusOK)
	moderator := h.token(bert, token.RoleModerator)
	for _, c := range []struct {
		name, bearer, path string
		status             int
		field              string
	}{
		{"no token", "", "/v1/me/visitors", 401, ""},
		{"a bad token", "x.y.z", "/v1/me/stats", 401, ""},
		{"a limit beyond the largest", h.token(anna), "/v1/me/visitors?limit=101", 422, "limit"},
		{"another user's cursor", h.token(bert), "/v1/me/visitors?cursor=" + first.Next, 422, "cursor"},
		{"another list's cursor", h.token(anna), "/v1/me/visits?cursor=" + first.Next, 422, "cursor"},
		{"no cursor at all", h.token(anna), "/v1/me/matches?cursor=newest", 422, "cursor"},
		{"a member on numbers of others", h.token(anna), "/internal/users/" + bert.String() + "/stats", 403, ""},
		{"a member on activities of others", h.token(anna), "/internal/users/" + bert.String() + "/activities", 403, ""},
		{"a member on the state of the service", h.token(anna), "/internal/projections", 403, ""},
		{"a user that is no UUID", moderator, "/internal/users/bert/stats", 422, "id"},
		{"activities without a good limit", moderator, "/internal/users/" + bert.String() + "/activities?limit=0", 422, "limit"},
	} {
		t.Run(c.name, func(t *testing.T) {
			sub := *h
			sub.TB = t
			p, header := get[struct {
				Status int
				Errors []struct{ Field string }
			}](&sub, c.bearer, c.path, c.status)
			if got := header.Get("Content-Type"); got != "application/problem+json" || p.Status != c.status {
				t.Errorf("%s with status %d", got, p.Status)
			}
			if c.field != "" && (len(p.Errors) != 1 || p.Errors[0].Field != c.field) {
				t.Errorf("errors %v, want one of %s", p.Errors, c.field)
			}
		})
	}
}

func TestLatestActivitiesOfAUser(t *testing.T) {
	h := newHouse(t, memstore.New())
	anna, bert := uuid.New(), uuid.New()
	moderator := h.token(uuid.New(), token.RoleModerator)
	path := "/internal/users/" + bert.String() + "/activities"
	type answer struct {
		Items    []object
		Complete bool
	}
	read := func(query string) (kinds string, a answer) {
		t.Helper()
		a, _ = get[answer](h, moderator, path+query, http.StatusOK)
		for _, item := range a.Items {
			kinds += fmt.Sprintf("%s@%v ", item["type"], item["sequence"])
		}
		return kinds, a
	}
	if kinds, a := read(""); kinds != "" || !a.Complete || a.Items == nil {
		t.Fatalf("of nobody: %q, %+v", kinds, a)
	}
	h.append(events.ProfileVisited, bert, anna, 1)
	h.append(events.ProfileLiked, bert, anna, 2)
	h.append(events.ActorHidden, bert, uuid.Nil, 3)
	h.append(events.LikeWithdrawn, bert, anna, 4)
	if kinds, a := read(""); kinds != "unlike@4 like@2 visit@1 " || !a.Complete {
		t.Fatalf("all: %q, complete %v", kinds, a.Complete)
	}
	kinds, a := read("?limit=2")
	if kinds != "unlike@4 like@2 " || !a.Complete {
		t.Fatalf("two: %q, complete %v", kinds, a.Complete)
	}
	delete(a.Items[0], "id")
	want := object{
		"type": "unlike", "target": anna.String(), "occurred_at": "2026-03-04T05:06:11.000089Z", "recorded_at": "2026-03-04T06:06:07.000089Z",
		"partition": float64(events.PartitionOf(bert, events.ActivityPartitions)), "sequence": 4.0,
	}
	if diff := cmp.Diff(want, a.Items[0]); diff != "" {
		t.Errorf("an item: -want +got\n%s", diff)
	}

	// Beyond 10,000 events of others in the partition, nobody looks.
	h.append(events.ProfileVisited, neighbour(bert), anna, make([]int, 4000)...)
	h.append(events.ProfileVisited, neighbour(bert), anna, make([]int, 4000)...)
	h.append(events.ProfileVisited, neighbour(bert), anna, make([]int, 1998)...)
	if kinds, a := read(""); kinds != "unlike@4 " || a.Complete {
		t.Fatalf("of which the tail holds two events: %q, complete %v", kinds, a.Complete)
	}
	if kinds, a := read("?limit=1"); kinds != "unlike@4 " || !a.Complete {
		t.Fatalf("of which the tail holds enough: %q, complete %v", kinds, a.Complete)
	}
}

// neighbour is a user in the same partition.
func neighbour(of uuid.UUID) uuid.UUID {
	for {
		if u := uuid.New(); events.PartitionOf(u, events.ActivityPartitions) == events.PartitionOf(of, events.ActivityPartitions) {
			return u
		}
	}
}

func TestReadyOnceTheReadModelsHaveCaughtUp(t *testing.T) {
	h := newHouse(t, memstore.New())
	anna, bert := uuid.New(), uuid.New()
	h.append(events.ProfileVisited, bert, anna, 1, 2, 3)
	get[object](h, "", "/readyz", http.StatusServiceUnavailable)
	get[object](h, "", "/livez", http.StatusOK)
	h.run()
	h.catchUp()
	h.becomesReady()
	status, _ := get[page](h, h.token(uuid.New(), token.RoleAdmin), "/v1/admin/projections/subscriptions", http.StatusOK)
	if len(status.Items) != 2*events.ActivityPartitions { // those of the notices come first
		t.Fatalf("%d partitions", len(status.Items))
	}
	partition := events.PartitionOf(bert, events.ActivityPartitions)
	got := status.Items[events.ActivityPartitions+partition]
	if got["heartbeat"] == nil {
		t.Error("no heartbeat")
	}
	delete(got, "heartbeat")
	delete(got, "rate") // over ten seconds
	want := object{
		"group": "projections", "log": "activity", "partition": float64(partition), "position": 3.0, "head": 3.0,
		"lag": 0.0, "lag_seconds": 0.0, "failures": 0.0, "parked": 0.0, "stalled": false, "caught_up": true,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestAStoreThatIsGoneIsSaidToBe(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1/").SetServerSelectionTimeout(10 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	h := newHouse(t, mongostore.Open(client.Database("nowhere")))
	for _, path := range []string{"visitors", "likes/given", "matches", "stats"} {
		_, header := get[object](h, h.token(uuid.New()), "/v1/me/"+path, http.StatusServiceUnavailable)
		if header.Get("Retry-After") != "1" {
			t.Errorf("%s: Retry-After %q", path, header.Get("Retry-After"))
		}
	}
}

func TestWhatIsMissingIsNamed(t *testing.T) {
	h := newHouse(t, memstore.New())
	whole := projections.Deps{Activity: h.log, Store: memstore.New(), Verifier: token.NewVerifier(token.StaticKeySet{}, time.Now)}
	for missing, take := range map[string]func(*projections.Deps){
		"activity log":   func(d *projections.Deps) { d.Activity = nil },
		"store":          func(d *projections.Deps) { d.Store = nil },
		"token verifier": func(d *projections.Deps) { d.Verifier = nil },
	} {
		deps := whole
		take(&deps)
		if _, err := projections.New(projections.Config{}, deps); err == nil || !strings.Contains(err.Error(), missing) {
			t.Errorf("without the %s: %v", missing, err)
		}
	}
}

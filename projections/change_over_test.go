package projections_test

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/inproc"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/projections"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/storetest"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/token"
)

// changeLimit ends a test of changing over whose condition never comes true.
const changeLimit = 3 * time.Minute

// fleet is two instances of the service on one log and one database.
type fleet struct {
	*testing.T
	ctx       context.Context
	log       *log.Log
	db        *mongo.Database
	signer    *token.Signer
	instances []*projections.Service
	ahead     atomic.Int64 // the registries' clock's, in nanoseconds
}

// shared is a bus that outlives who lets go of it.
type shared struct{ message.Subscriber }

func (shared) Close() error { return nil }

func newFleet(t *testing.T) *fleet {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), changeLimit)
	t.Cleanup(cancel)
	f := &fleet{T: t, ctx: ctx}
	f.db = servertest.Database(t, "projections")
	if err := errors.Join(mongostore.Create(ctx, f.db), mongoledger.Create(ctx, f.db)); err != nil {
		t.Fatal(err)
	}
	file, err := boltlog.Open(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	store, err := file.Log(events.ActivityLog, events.ActivityPartitions)
	if err != nil {
		t.Fatal(err)
	}
	wires := inproc.New(inproc.Config{})
	feed := bus.NewFeed(wires, bus.FeedOptions{})
	f.log = log.New(store, log.Options{Committed: feed.Offer})
	feeding, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = feed.Run(feeding) })
	t.Cleanup(func() {
		f.log.Close()
		stop()
		running.Wait()
		if err := errors.Join(wires.Close(), file.Close()); err != nil {
			t.Error(err)
		}
	})
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	if f.signer, err = token.NewSigner(private); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		s, err := projections.New(projections.Config{LookEvery: 10 * time.Millisecond}, projections.Deps{
			Activity: f.log, Versions: f.registry(), Logger: slog.New(slog.DiscardHandler),
			Follow:   func(string) (message.Subscriber, error) { return shared{wires}, nil },
			Verifier: token.NewVerifier(token.StaticKeySet{f.signer.KeyID(): public}, time.Now),
		})
		if err != nil {
			t.Fatal(err)
		}
		f.instances = append(f.instances, s)
	}
	return f
}

func (f *fleet) registry() *versions.Registry {
	return versions.Open(f.db, mongoledger.Open(f.db), versions.Options{
		Logger: slog.New(slog.DiscardHandler), Clock: func() time.Time { return time.Now().Add(time.Duration(f.ahead.Load())) },
	})
}

// run has the instances follow the log for the rest of the test.
func (f *fleet) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	for _, s := range f.instances {
		running.Go(func() {
			if err := s.Run(ctx); err != nil {
				f.Error(err)
			}
		})
	}
	f.Cleanup(func() { cancel(); running.Wait() })
}

func (f *fleet) token(user uuid.UUID, roles ...string) string {
	f.Helper()
	now := time.Now()
	raw, err := f.signer.Sign(token.Claims{Subject: user, Session: uuid.New(), Roles: roles, IssuedAt: now, ExpiresAt: now.Add(time.Hour)})
	if err != nil {
		f.Fatal(err)
	}
	return raw
}

// ask asks an instance, which must answer with 200.
func ask[T any](ctx context.Context, s *projections.Service, bearer, path string) (body T, err error) {
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, path, nil)
	r.Header.Set("Authorization", "Bearer "+bearer)
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		return body, fmt.Errorf("GET %s: %d: %s", path, w.Code, w.Body)
	}
	return body, json.Unmarshal(w.Body.Bytes(), &body)
}

func (f *fleet) until(what string, is func() bool) {
	f.Helper()
	again := time.NewTicker(5 * time.Millisecond)
	defer again.Stop()
	for !is() {
		select {
		case <-again.C:
		case <-f.ctx.Done():
			f.Fatalf("it never comes that %s", what)
		}
	}
}

// serving waits until every instance answers from the version, and follows no
// other one.
func (f *fleet) serving(version int) {
	f.Helper()
	analyst := f.token(uuid.New(), token.RoleAnalyst)
	for i, s := range f.instances {
		f.until(fmt.Sprintf("instance %d serves version %d", i, version), func() bool {
			type state struct {
				Serving  int
				Versions struct{ Serving int }
			}
			got, err := ask[state](f.ctx, s, analyst, "/internal/projections")
			if err != nil {
				f.Fatal(err)
			}
			subs := s.Subscriptions()
			return got.Serving == version && got.Versions.Serving == version && len(subs) == 2 && subs[0].Group() == versions.Group(version)
		})
	}
}

// visits is one event: somebody visits somebody, and now and then likes them.
func (f *fleet) visit(n int, actor, target uuid.UUID) {
	kind := events.ProfileVisited
	if n%3 == 2 {
		kind = events.ProfileLiked
	}
	if _, err := f.log.Append(f.ctx, events.Event{
		ID: uuid.New(), Type: kind, Stream: actor, OccurredAt: time.Unix(int64(n), 0).UTC(),
		Data: events.Activity{Target: target, JoinedAt: time.Unix(0, 0)}.AppendJSON(nil),
	}); err != nil {
		f.Error(err)
	}
}

func (f *fleet) oracle() views.Store {
	f.Helper()
	s := memstore.New()
	for p := range f.log.Partitions() {
		b := subscription.Batch{Partition: p, First: 1}
		for e, err := range log.Events(f.ctx, f.log, p, 0) {
			if err != nil {
				f.Fatal(err)
			}
			b.Events, b.Last = append(b.Events, e), e.Sequence
		}
		if b.Last == 0 {
			continue
		}
		if err := views.Handler(s)(f.ctx, b); err != nil {
			f.Fatal(err)
		}
	}
	return s
}

// TestNobodyNoticesARebuild has two instances serve while events are appended and
// lists are read all the time, and meanwhile rebuilds, switches back, rebuilds
// again and drops.
func TestNobodyNoticesARebuild(t *testing.T) {
	f := newFleet(t)
	users := make([]uuid.UUID, 12)
	for i := range users {
		users[i] = uuid.New()
	}
	anna := users[0]
	for n := range 300 {
		f.visit(n, users[1+n%11], users[n%5/4]) // mostly anna
	}
	f.run()
	f.serving(1)
	for _, s := range f.instances {
		if err := s.CatchUp(f.ctx); err != nil {
			t.Fatal(err)
		}
	}

	work, stop := context.WithCancel(f.ctx)
	defer stop()
	var busy sync.WaitGroup
	busy.Go(func() {
		for n := 300; work.Err() == nil; n++ {
			f.visit(n, users[1+n%11], users[n%5/4])
		}
	})
	var reads [2]atomic.Int64
	for i, s := range f.instances {
		busy.Go(func() { f.watch(work, s, anna, &reads[i]) })
	}
	// What was read before and after each step shows that there were readers.
	step := func(what string, do func() (int, error)) {
		t.Helper()
		before := [2]int64{reads[0].Load(), reads[1].Load()}
		version, err := do()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		f.serving(version)
		f.until("somebody reads from each instance", func() bool { return reads[0].Load() > before[0]+1 && reads[1].Load() > before[1]+1 })
	}
	r := f.registry()
	rebuild := func() (int, error) { result, err := r.Rebuild(f.ctx, f.log, nil); return result.To, err }
	back := func(to int) func() (int, error) {
		return func() (int, error) { result, err := r.Switch(f.ctx, f.log, to, nil); return result.To, err }
	}
	step("rebuild", rebuild)
	if err := r.Drop(f.ctx, 1); !errors.Is(err, versions.ErrRefused) {
		t.Errorf("drop of the version that served until now: %v", err)
	}
	step("switch back", back(1))
	step("switch forth", back(2))
	step("rebuild again", rebuild)
	f.ahead.Add(int64(versions.Grace))
	step("drop", func() (int, error) { return 3, errors.Join(r.Drop(f.ctx, 1), r.Drop(f.ctx, 2)) })
	stop()
	busy.Wait()

	for i, s := range f.instances {
		if err := s.CatchUp(f.ctx); err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequestWithContext(f.ctx, http.MethodGet, "/readyz", nil)
		f.until(fmt.Sprintf("instance %d is ready", i), func() bool {
			w := httptest.NewRecorder()
			s.Handler().ServeHTTP(w, r)
			return w.Code == http.StatusOK
		})
	}
	diff, err := storetest.Diff(f.ctx, f.oracle(), mongostore.OpenVersion(f.db, 3), users)
	if err != nil || diff != "" {
		t.Errorf("%v: -log +version\n%s", err, diff)
	}
}

// watch reads numbers and a list of a user, again and again: no read may fail, and
// what only grows may not shrink.
func (f *fleet) watch(ctx context.Context, s *projections.Service, user uuid.UUID, reads *atomic.Int64) {
	bearer := f.token(user)
	type numbers struct {
		Visits   int64 `json:"visits_received"`
		Visitors int64 `json:"unique_visitors"`
		Likes    int64 `json:"likes_received"`
	}
	type list struct{ Items []struct{ Count int64 } }
	var seen numbers
	counted := int64(0)
	for ctx.Err() == nil {
		got, err := ask[numbers](f.ctx, s, bearer, "/v1/me/stats")
		if err != nil {
			f.Error(err)
			return
		}
		if got.Visits < seen.Visits || got.Visitors < seen.Visitors || got.Likes < seen.Likes {
			f.Errorf("numbers go back from %+v to %+v", seen, got)
			return
		}
		seen = got
		visitors, err := ask[list](f.ctx, s, bearer, "/v1/me/visitors")
		if err != nil {
			f.Error(err)
			return
		}
		sum := int64(0)
		for _, v := range visitors.Items {
			sum += v.Count
		}
		if sum < counted || sum < seen.Visits {
			f.Errorf("the visitors' visits go back from %d, or %d, to %d", counted, seen.Visits, sum)
			return
		}
		counted = sum
		reads.Add(1)
	}
}

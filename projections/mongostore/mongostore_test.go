package mongostore_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/storetest"
	"github.com/meet5/backend/projections/views"
)

func TestMain(m *testing.M) {
	// A history takes about a second here; -rapid.checks has the last word.
	if err := flag.Set("rapid.checks", "30"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestKeepsTheRulesOfTheViews(t *testing.T) { storetest.Run(t, subject(t)) }

func TestStandsRaces(t *testing.T) { storetest.Races(t, subject(t)) }

func TestEqualsTheMemoryStoreHoweverEventsAreDelivered(t *testing.T) {
	storetest.Property(t, subject(t))
}

func TestCreateMayBeRepeatedAndCheckSaysWhatIsMissing(t *testing.T) {
	db := servertest.Database(t, "projections")
	s := mongostore.Open(db)
	if err := s.Check(t.Context()); !errors.Is(err, mongostore.ErrNotReady) {
		t.Fatalf("check of an empty database: %v, want ErrNotReady", err)
	}
	for range 2 {
		if err := mongostore.Create(t.Context(), db); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.Collection("likes").Indexes().DropOne(t.Context(), "received"); err != nil {
		t.Fatal(err)
	}
	if err := s.Check(t.Context()); !errors.Is(err, mongostore.ErrNotReady) {
		t.Fatalf("check without an index: %v, want ErrNotReady", err)
	}
}

// TestWritersOfTheSameMatchesDoNotHoldEachOtherUp: two processes bring in likes
// between the actors of all partitions, so that each match is written from two sides,
// in batches that share their trips as they come.
func TestWritersOfTheSameMatchesDoNotHoldEachOtherUp(t *testing.T) {
	const partitions, actors, rounds = 8, 12, 4
	db := servertest.Database(t, "projections")
	stores := []*mongostore.Store{created(t, db), mongostore.Open(db)}
	var all [partitions][actors]uuid.UUID
	for p := range all {
		for a := range all[p] {
			all[p][a] = uuid.New()
		}
	}
	kinds := []views.Kind{views.Liked, views.Withdrawn}
	var wg sync.WaitGroup
	for p := range partitions {
		wg.Go(func() {
			last := uint64(0)
			for round := range rounds {
				b := views.Batch{Partition: p, First: last + 1}
				for _, actor := range all[p] {
					for q := range all {
						for _, target := range all[q] {
							if target != actor {
								last++
								b.Changes = append(b.Changes, views.Change{Kind: kinds[round%2], Actor: actor, Target: target, At: time.Unix(int64(round), 0), Sequence: last})
							}
						}
					}
				}
				// In parts that are small enough to share trips.
				for part := range slices.Chunk(b.Changes, 100) {
					some := views.Batch{Partition: p, First: part[0].Sequence, Last: part[len(part)-1].Sequence, Changes: part}
					if err := stores[p%2].Apply(t.Context(), some); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for p := range all {
		n, err := stores[0].Stats(t.Context(), all[p][0])
		if err != nil || n.LikesReceived != 0 || n.Matches != 0 {
			t.Errorf("%+v (%v), want no likes and no matches after all were withdrawn", n, err)
		}
	}
}

func TestVersionsLieSideBySide(t *testing.T) {
	db := servertest.Database(t, "projections")
	first := created(t, db)
	anna, bert := uuid.New(), uuid.New()
	apply := func(s *mongostore.Store, times int) {
		t.Helper()
		b := views.Batch{First: 1, Last: uint64(times)} //nolint:gosec // a few
		for n := range times {
			b.Changes = append(b.Changes, views.Change{Kind: views.Visited, Actor: bert, Target: anna, At: time.Unix(int64(n), 0), Sequence: uint64(n + 1)}) //nolint:gosec // a few
		}
		if err := s.Apply(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	visits := func(s *mongostore.Store) int64 {
		t.Helper()
		n, err := s.Stats(t.Context(), anna)
		if err != nil {
			t.Fatal(err)
		}
		return n.VisitsReceived
	}
	apply(first, 2)
	second := mongostore.OpenVersion(db, 2)
	if err := second.Check(t.Context()); !errors.Is(err, mongostore.ErrNotReady) || !strings.Contains(err.Error(), "_v2") {
		t.Fatalf("check of a version that is not there: %v", err)
	}
	for range 2 {
		if err := mongostore.CreateVersion(t.Context(), db, 2); err != nil {
			t.Fatal(err)
		}
	}
	if err := second.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	apply(second, 3)
	if a, b := visits(first), visits(second); a != 2 || b != 3 {
		t.Fatalf("%d and %d visits, want 2 and 3", a, b)
	}
	for range 2 {
		if err := mongostore.DropVersion(t.Context(), db, 2); err != nil {
			t.Fatal(err)
		}
	}
	names, err := db.ListCollectionNames(t.Context(), bson.D{{Key: "name", Value: bson.D{{Key: "$regex", Value: "_v2$"}}}})
	if err != nil || len(names) != 0 {
		t.Fatalf("left are %v, %v", names, err)
	}
	if n := visits(first); n != 2 {
		t.Fatalf("%d visits in the first version, want 2", n)
	}
}

func TestAServerThatIsGoneIsUnavailable(t *testing.T) {
	client, err := mongo.Connect(options.Client().ApplyURI("mongodb://127.0.0.1:1/").SetServerSelectionTimeout(10 * time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Disconnect(context.Background()) })
	s := mongostore.Open(client.Database("nowhere"))
	if _, err := s.Visitors(t.Context(), uuid.New(), views.Page{Limit: 1}); !errors.Is(err, views.ErrUnavailable) {
		t.Errorf("visitors: %v, want ErrUnavailable", err)
	}
	if _, err := s.Stats(t.Context(), uuid.New()); !errors.Is(err, views.ErrUnavailable) {
		t.Errorf("stats: %v, want ErrUnavailable", err)
	}
}

// subject is one store: its documents belong to pairs of users, and each scene
// and history has users of its own.
func subject(t *testing.T) storetest.Subject {
	s := created(t, servertest.Database(t, "projections", options.Client().SetMonitor(exchanges())))
	return storetest.Subject{Open: func() views.Store { return s }, Before: before}
}

func created(t testing.TB, db *mongo.Database) *mongostore.Store {
	t.Helper()
	if err := mongostore.Create(t.Context(), db); err != nil {
		t.Fatal(err)
	}
	s := mongostore.Open(db)
	if err := s.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

type exchangeKey struct{}

func before(ctx context.Context, exchange func()) context.Context {
	return context.WithValue(ctx, exchangeKey{}, exchange)
}

// exchanges runs what a call's context says before each command is sent.
func exchanges() *event.CommandMonitor {
	return &event.CommandMonitor{Started: func(ctx context.Context, _ *event.CommandStartedEvent) {
		if exchange, ok := ctx.Value(exchangeKey{}).(func()); ok {
			exchange()
		}
	}}
}

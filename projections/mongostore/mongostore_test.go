package mongostore_test

import (
	"context"
	"errors"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

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
	db := database(t, nil)
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

func TestACheckpointNeverMovesBack(t *testing.T) {
	s := created(t, database(t, nil))
	load := func(want uint64) {
		t.Helper()
		got, err := s.Load(t.Context(), "projections", "activity", 3)
		if err != nil || got != want {
			t.Fatalf("loaded %d, %v, want %d", got, err, want)
		}
	}
	load(0)
	for _, sequence := range []uint64{5, 9, 7} {
		if err := s.Save(t.Context(), "projections", "activity", 3, sequence); err != nil {
			t.Fatal(err)
		}
	}
	load(9)
	if err := s.Save(t.Context(), "projections", "activity", 1, 4); err != nil {
		t.Fatal(err)
	}
	load(9)
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
	s := created(t, database(t, exchanges()))
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

// cleanupTimeout bounds dropping a test's database.
const cleanupTimeout = 30 * time.Second

// database is a new, empty database that is dropped after the test.
func database(t testing.TB, monitor *event.CommandMonitor) *mongo.Database {
	t.Helper()
	uri := os.Getenv("MONGODB_URI")
	if uri == "" {
		const missing = "MONGODB_URI is not set; `make test` brings a server up"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	client, err := mongo.Connect(options.Client().ApplyURI(uri).SetMonitor(monitor))
	if err != nil {
		t.Fatal(err)
	}
	db := client.Database("projections_" + uuid.NewString()[:8])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := db.Drop(ctx); err != nil {
			t.Errorf("drop %s: %v", db.Name(), err)
		}
		if err := client.Disconnect(ctx); err != nil {
			t.Error(err)
		}
	})
	return db
}

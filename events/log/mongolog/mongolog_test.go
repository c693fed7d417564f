package mongolog_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/event"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/logtest"
	"github.com/meet5/backend/events/log/mongolog"
)

func TestStoreKeepsThePromisesOfTheLog(t *testing.T) {
	logtest.Run(t, func(t *testing.T) log.Store {
		return newStore(t, database(t, nil), logtest.Partitions)
	})
}

// cleanupTimeout bounds dropping a test's database.
const cleanupTimeout = 30 * time.Second

// database is a new, empty database that is dropped after the test.
func database(t testing.TB, monitor *event.CommandMonitor) *mongo.Database {
	t.Helper()
	db := connect(t, options.Client().ApplyURI(serverURI(t)).SetMonitor(monitor)).Database("mongolog_" + uuid.NewString()[:8])
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := db.Drop(ctx); err != nil {
			t.Errorf("drop %s: %v", db.Name(), err)
		}
	})
	return db
}

func serverURI(t testing.TB) string {
	t.Helper()
	uri := os.Getenv("MONGODB_URI")
	if uri == "" {
		const missing = "MONGODB_URI is not set; `make test` brings a server up"
		if os.Getenv("CI") != "" {
			t.Fatal(missing)
		}
		t.Skip(missing)
	}
	return uri
}

func connect(t testing.TB, opts *options.ClientOptions) *mongo.Client {
	t.Helper()
	client, err := mongo.Connect(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
		defer cancel()
		if err := client.Disconnect(ctx); err != nil {
			t.Error(err)
		}
	})
	return client
}

const logName = "activity"

func newStore(t testing.TB, db *mongo.Database, partitions int) *mongolog.Store {
	t.Helper()
	if err := mongolog.Create(t.Context(), db, logName, partitions); err != nil {
		t.Fatal(err)
	}
	return mongolog.Open(db, logName, partitions)
}

var recorded = time.Date(2026, 1, 2, 3, 4, 5, 678_000, time.UTC)

// commitOf makes a commit of n events with so many bytes of data each.
func commitOf(t testing.TB, partition int, first uint64, n, size int) events.Commit {
	t.Helper()
	evs := make([]events.Event, n)
	for i := range evs {
		evs[i] = events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(),
			OccurredAt: recorded, Data: make([]byte, size),
		}
	}
	c, err := events.Encode(logName, partition, first, recorded, uuid.New(), evs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func insert(t testing.TB, s *mongolog.Store, c events.Commit, keys ...string) {
	t.Helper()
	if err := s.Insert(t.Context(), c, keys); err != nil {
		t.Fatal(err)
	}
}

// read returns the first sequences of what Read yields, and its error.
func read(ctx context.Context, s *mongolog.Store, partition int, after uint64) (firsts []uint64, err error) {
	for c, err := range s.Read(ctx, partition, after) {
		if err != nil {
			return firsts, err
		}
		firsts = append(firsts, c.First)
	}
	return firsts, nil
}

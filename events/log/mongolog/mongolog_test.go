package mongolog_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/logtest"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
)

func TestStoreKeepsThePromisesOfTheLog(t *testing.T) {
	logtest.Run(t, func(t *testing.T) log.Store {
		return newStore(t, servertest.Database(t, "mongolog"), logtest.Partitions)
	})
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

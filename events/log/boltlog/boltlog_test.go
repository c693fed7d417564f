package boltlog_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/log/logtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var recorded = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

func open(t testing.TB, path string) *boltlog.DB {
	t.Helper()
	db, err := boltlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func store(t testing.TB, db *boltlog.DB, name string, partitions int) log.Store {
	t.Helper()
	s, err := db.Log(name, partitions)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeepsThePromisesOfTheLog(t *testing.T) {
	logtest.Run(t, func(t *testing.T) log.Store {
		return store(t, open(t, filepath.Join(t.TempDir(), "log.db")), "activity", logtest.Partitions)
	})
}

func TestEventsAndKeysAreThereAfterReopening(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	e := events.Event{
		ID: uuid.New(), Type: events.UserRegistered, Stream: uuid.New(), Version: 1,
		OccurredAt: time.Unix(1, 0), Claims: []string{"handle:anna"}, Data: []byte("{}"),
	}
	db, err := boltlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	l := log.New(store(t, db, "user", 1), log.Options{})
	if _, err := l.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}

	l = log.New(store(t, open(t, path), "user", 1), log.Options{})
	defer l.Close()
	if at, err := l.Append(t.Context(), e); err != nil || !at[0].Duplicate || at[0].Sequence != 1 {
		t.Fatalf("the same event: %+v (%v), want a duplicate of 1", at, err)
	}
	e.ID, e.Stream = uuid.New(), uuid.New()
	if _, err := l.Append(t.Context(), e); !errors.Is(err, log.ErrConflict) {
		t.Fatalf("the held claim: %v, want a conflict", err)
	}
}

func TestASecondProcessIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	open(t, path)
	if _, err := boltlog.Open(path); !errors.Is(err, boltlog.ErrInUse) {
		t.Fatalf("got %v, want ErrInUse", err)
	}
}

func TestAnotherNumberOfPartitionsIsRefused(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "log.db"))
	store(t, db, "activity", 16)
	if _, err := db.Log("activity", 8); err == nil {
		t.Fatal("a log of 16 partitions was opened with 8")
	}
}

package boltside_test

import (
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/side/boltside"
	"github.com/meet5/backend/fraud/side/sidetest"
)

func TestStoreKeepsItsPromises(t *testing.T) {
	sidetest.Run(t, func(t *testing.T) labels.Store {
		return open(t, filepath.Join(t.TempDir(), "fraud.db"))
	})
}

func open(t *testing.T, path string) *boltside.DB {
	t.Helper()
	db, err := boltside.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestItIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fraud.db")
	db := open(t, path)
	at := subscription.Place{Group: "g", Log: "l", Partition: 3}
	l := labels.Label{User: uuid.New(), At: time.Unix(1, 0).UTC(), Label: "1", Source: "a"}
	if err := errors.Join(
		db.Put(t.Context(), []labels.Label{l}),
		db.Ledger().Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: 42}),
	); err != nil {
		t.Fatal(err)
	}
	if _, err := boltside.Open(path); !errors.Is(err, boltside.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, path)
	if c, err := db.Ledger().Load(t.Context(), at); c.Sequence != 42 || err != nil {
		t.Errorf("%d, %v", c.Sequence, err)
	}
	for there, err := range db.All(t.Context()) {
		if there != l || err != nil {
			t.Errorf("%+v, %v", there, err)
		}
	}
}

package boltside_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/meet5/backend/fraud/side/boltside"
	"github.com/meet5/backend/fraud/side/sidetest"
)

func TestStoreKeepsItsPromises(t *testing.T) {
	sidetest.Run(t, func(t *testing.T) sidetest.Store {
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
	if err := db.Save(t.Context(), "g", "l", 3, 42); err != nil {
		t.Fatal(err)
	}
	if _, err := boltside.Open(path); !errors.Is(err, boltside.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := open(t, path).Load(t.Context(), "g", "l", 3); n != 42 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

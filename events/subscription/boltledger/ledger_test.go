package boltledger_test

import (
	"context"
	"encoding/binary"
	"errors"
	"path/filepath"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/boltledger"
	"github.com/meet5/backend/events/subscription/ledgertest"
)

func TestItKeepsThePromisesOfALedger(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) subscription.Ledger {
		return ledger(t, file(t, filepath.Join(t.TempDir(), "service.db")))
	})
}

func file(t *testing.T, path string) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func ledger(t *testing.T, db *bolt.DB) *boltledger.Ledger {
	t.Helper()
	l, err := boltledger.New(db)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestCheckpointsOfEarlierBuildsCount(t *testing.T) {
	db := file(t, filepath.Join(t.TempDir(), "service.db"))
	err := db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucket([]byte("checkpoints"))
		if err != nil {
			return err
		}
		return b.Put([]byte("user-standing/fraud/2"), binary.BigEndian.AppendUint64(nil, 42))
	})
	if err != nil {
		t.Fatal(err)
	}
	l := ledger(t, db)
	at := subscription.Place{Group: "user-standing", Log: "fraud", Partition: 2}
	for _, step := range []struct{ saved, want uint64 }{{0, 42}, {41, 42}, {43, 43}} {
		if step.saved > 0 {
			if err := l.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: step.saved}); err != nil {
				t.Fatal(err)
			}
		}
		want := subscription.Checkpoint{Place: at, Sequence: step.want}
		if c, err := l.Load(t.Context(), at); err != nil || c != want {
			t.Errorf("after saving %d: %+v, %v", step.saved, c, err)
		}
		all, err := l.List(t.Context())
		if err != nil || !slices.Equal(all, []subscription.Checkpoint{want}) {
			t.Errorf("after saving %d: %#v, %v", step.saved, all, err)
		}
	}
}

func TestItIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.db")
	at := subscription.Place{Group: "g", Log: "l", Partition: 3}
	db := file(t, path)
	l := ledger(t, db)
	if err := errors.Join(
		l.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: 42}),
		l.Park(t.Context(), subscription.Parked{Place: at, Sequence: 7, Reason: "why"}),
		db.Close(),
	); err != nil {
		t.Fatal(err)
	}
	l = ledger(t, file(t, path))
	if c, err := l.Load(t.Context(), at); c.Sequence != 42 || err != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if list, err := l.Parked(t.Context(), at); len(list) != 1 || list[0].Reason != "why" || err != nil {
		t.Errorf("%+v, %v", list, err)
	}
}

func TestAFileOfItsOwnIsOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "activity.db")
	l, err := boltledger.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := boltledger.Open(path); !errors.Is(err, boltledger.ErrInUse) {
		t.Errorf("opened twice: %v", err)
	}
	at := subscription.Place{Group: "g", Log: "l"}
	if err := errors.Join(l.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: 7}), l.Close()); err != nil {
		t.Fatal(err)
	}
	if l, err = boltledger.Open(path); err != nil {
		t.Fatal(err)
	}
	if c, err := l.Load(t.Context(), at); c.Sequence != 7 || err != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}

func TestWhatWouldMixPlacesUpIsRefused(t *testing.T) {
	l := ledger(t, file(t, filepath.Join(t.TempDir(), "service.db")))
	for _, at := range []subscription.Place{
		{}, {Group: "a/b", Log: "c"}, {Group: "a", Log: "b/c"}, {Group: "a"}, {Group: "a", Log: "b", Partition: -1},
	} {
		_, err := l.Load(t.Context(), at)
		for what, err := range map[string]error{
			"load": err,
			"save": l.Save(t.Context(), subscription.Checkpoint{Place: at, Sequence: 1}),
			"park": l.Park(t.Context(), subscription.Parked{Place: at, Sequence: 1}),
		} {
			if err == nil {
				t.Errorf("%s %+v: accepted", what, at)
			}
		}
	}
	if all, err := l.List(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("%+v, %v", all, err)
	}
}

func TestACallWhoseContextHasEndedChangesNothing(t *testing.T) {
	l := ledger(t, file(t, filepath.Join(t.TempDir(), "service.db")))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	at := subscription.Place{Group: "g", Log: "l"}
	if err := l.Save(ctx, subscription.Checkpoint{Place: at, Sequence: 1}); !errors.Is(err, context.Canceled) {
		t.Errorf("save: %v", err)
	}
	if c, err := l.Load(t.Context(), at); c.Sequence != 0 || err != nil {
		t.Errorf("%+v, %v", c, err)
	}
}

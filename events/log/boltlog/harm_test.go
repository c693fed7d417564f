package boltlog_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
)

// TestAFileThatIsCutOffIsRefusedWithBothSizes, wherever it is cut, and left as it
// is.
func TestAFileThatIsCutOffIsRefusedWithBothSizes(t *testing.T) {
	whole := sampleFile(t)
	page := os.Getpagesize()
	need := usedBytes(t, whole)
	var sizes []int
	for size := 0; size < need; size += page {
		sizes = append(sizes, size, size+1, size+page-1)
	}
	path := filepath.Join(t.TempDir(), "log.db")
	for _, size := range sizes {
		if err := os.WriteFile(path, whole[:size], 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := boltlog.Open(path)
		if !errors.Is(err, boltlog.ErrDamaged) || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), fmt.Sprintf("it has %d bytes", size)) {
			t.Fatalf("%d of %d bytes: %v", size, need, err)
		}
		if size >= 2*page && !strings.Contains(err.Error(), fmt.Sprintf("its pages need %d (", need)) {
			t.Fatalf("%d of %d bytes: %v", size, need, err)
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != string(whole[:size]) {
			t.Fatalf("%d of %d bytes: the file was changed (%v)", size, need, err)
		}
		inspected(t, path)
	}
	// What is behind the last page is nothing that is missed.
	if err := os.WriteFile(path, whole[:need], 0o600); err != nil {
		t.Fatal(err)
	}
	use(t, open(t, path))
}

// usedBytes is where a file's last page ends, as bbolt sees it.
func usedBytes(t *testing.T, file []byte) (used int) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "whole.db")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.View(func(tx *bolt.Tx) error {
		used = int(tx.Size())
		return nil
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
	return used
}

// TestEachHarmedPageIsNamed: the header of every page that is in use.
func TestEachHarmedPageIsNamed(t *testing.T) {
	whole := sampleFile(t)
	page := os.Getpagesize()
	path := filepath.Join(t.TempDir(), "log.db")
	named := 0
	for n := 2; n*page < usedBytes(t, whole); n++ {
		file := slices.Clone(whole)
		file[n*page] ^= 0x40 // its number
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		db, err := boltlog.Open(path)
		if err == nil { // a free page, or the rest of one that goes on
			if err := db.Close(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if !errors.Is(err, boltlog.ErrDamaged) || !strings.Contains(err.Error(), fmt.Sprintf("page %d", n)) || !strings.Contains(err.Error(), "meet5 verify") {
			t.Errorf("page %d: %v", n, err)
		}
		named++
	}
	if named < 8 {
		t.Errorf("only %d pages are in use", named)
	}
}

// TestAMetaPageThatIsHarmedIsToldOfAndSurvived, as after a power cut.
func TestAMetaPageThatIsHarmedIsToldOfAndSurvived(t *testing.T) {
	whole := sampleFile(t)
	for n := range 2 {
		file := slices.Clone(whole)
		file[n*os.Getpagesize()+20] ^= 1
		path := filepath.Join(t.TempDir(), "log.db")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		db := open(t, path)
		if f := db.Faults(); len(f) != 1 || f[0].Page != uint64(n) || !f[0].Survived { //nolint:gosec // small
			t.Errorf("page %d: %v", n, f)
		}
		use(t, db)
	}
}

func TestAnInterruptedCreationIsTakenUp(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	if err := os.WriteFile(path+".new", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	store(t, open(t, path), "activity", 1)
	if _, err := os.Stat(path + ".new"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the unfinished file is still there: %v", err)
	}
}

// TestBothWalksSeeTheSame: the one that reads pages, and the one of an open store.
func TestBothWalksSeeTheSame(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log.db")
	if err := os.WriteFile(path, sampleFile(t), 0o600); err != nil {
		t.Fatal(err)
	}
	harmCommit(t, path, "activity/p01", func(k, v []byte, b *bolt.Bucket) error {
		return errors.Join(b.Put(k, v[:30]), b.Put([]byte("strange"), v))
	})
	harmCommit(t, path, "activity/k02", func(k, _ []byte, b *bolt.Bucket) error { return b.Put(k, []byte("x")) })
	walk := func(s log.Scanner) (seen []string) {
		for p := range s.Partitions() {
			for e, err := range s.Entries(t.Context(), p) {
				if err != nil {
					t.Fatal(err)
				}
				seen = append(seen, fmt.Sprintf("%d: %d %d events, %v", p, e.Sequence, e.Commit.Count, e.Err))
			}
			for k, err := range s.Keys(t.Context(), p) {
				if err != nil {
					t.Fatal(err)
				}
				seen = append(seen, fmt.Sprintf("%d: %q %d, %v", p, k.Key, k.First, k.Err))
			}
		}
		return seen
	}
	i, err := boltlog.Inspect(path, func(f boltlog.Fault) { t.Error(f) })
	if err != nil {
		t.Fatal(err)
	}
	closed := walk(i.Log("activity", 3))
	if err := i.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := open(t, path).Log("activity", 3)
	if err != nil {
		t.Fatal(err)
	}
	if opened := walk(s); !slices.Equal(opened, closed) || len(opened) < 50 {
		t.Errorf("the store sees\n%s\nthe pages hold\n%s", strings.Join(opened, "\n"), strings.Join(closed, "\n"))
	}
}

// harmCommit changes the bytes of a stored commit behind the package's back.
func harmCommit(t *testing.T, path, bucket string, change func(k, v []byte, b *bolt.Bucket) error) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket([]byte(bucket))
		k, v := b.Cursor().Last()
		return change(slices.Clone(k), slices.Clone(v), b)
	}), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// anEvent is one whose stream belongs to a partition.
func anEvent(partition, partitions int) events.Event {
	for {
		if stream := uuid.New(); events.PartitionOf(stream, partitions) == partition {
			return events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: stream, OccurredAt: recorded, Data: []byte("{}")}
		}
	}
}

// TestAHarmedLastCommitStopsItsPartitionAlone: the file opens, what is before can
// be read, and nothing is written after what cannot, nor over it.
func TestAHarmedLastCommitStopsItsPartitionAlone(t *testing.T) {
	for name, change := range map[string]func(k, v []byte, b *bolt.Bucket) error{
		"a bit of it": func(k, v []byte, b *bolt.Bucket) error { v[len(v)-3] ^= 1; return b.Put(k, v) },
		"cut short":   func(k, v []byte, b *bolt.Bucket) error { return b.Put(k, v[:20]) },
		"another format": func(k, v []byte, b *bolt.Bucket) error {
			v[3] = 9
			return b.Put(k, v)
		},
		"nothing left": func(k, _ []byte, b *bolt.Bucket) error { return b.Put(k, nil) },
		"a strange key": func(_, v []byte, b *bolt.Bucket) error {
			return b.Put([]byte("\xff\xff"), v)
		},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log.db")
			if err := os.WriteFile(path, sampleFile(t), 0o600); err != nil {
				t.Fatal(err)
			}
			harmCommit(t, path, "activity/p01", change)
			db := open(t, path)
			s := store(t, db, "activity", 3)
			l := log.New(s, log.Options{})
			defer l.Close()
			before := entries(t, s)
			_, err := l.Append(t.Context(), anEvent(1, 3))
			if !errors.Is(err, events.ErrCorrupt) || !errors.Is(err, log.ErrUnavailable) || !strings.Contains(err.Error(), "activity/1") || !strings.Contains(err.Error(), "bucket activity/p01, key ") {
				t.Errorf("append: %v, want ErrCorrupt and ErrUnavailable with the place", err)
			}
			head, err := s.Head(t.Context(), 1)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if err := s.Insert(ctx, encode(t, "activity", 1, head+1, 1, 10), nil); !errors.Is(err, events.ErrCorrupt) {
				t.Errorf("insert: %v, want ErrCorrupt", err)
			}
			if at, err := l.Append(t.Context(), anEvent(2, 3)); err != nil || at[0].Sequence == 0 {
				t.Errorf("append to another partition: %v %v", at, err)
			}
			other := log.New(store(t, db, "user", 1), log.Options{})
			defer other.Close()
			if at, err := other.Append(t.Context(), anEvent(0, 1)); err != nil || at[0].Sequence != 1 {
				t.Errorf("append to another log: %v %v", at, err)
			}
			if after := entries(t, s); after != before || before < 4 {
				t.Errorf("%d commits can be read, %d before", after, before)
			}
		})
	}
}

// entries counts the commits of partition 1 before the harm, which must come.
func entries(t *testing.T, s log.Store) (n int) {
	t.Helper()
	for _, err := range s.Read(t.Context(), 1, 0) {
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) || !strings.Contains(err.Error(), "bucket activity/p01, key ") {
				t.Fatalf("%v, want ErrCorrupt with the place", err)
			}
			return n
		}
		n++
	}
	t.Fatal("the harm was read over")
	return 0
}

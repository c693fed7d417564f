package boltlog_test

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
)

// FuzzHarmedFile: whatever becomes of a file's bytes, opening it and using it
// gives errors and never ends the process; and a file in which this package
// finds no fault is one in which bbolt's own check finds none.
//
// patch is a list of changes: where, 4 bytes, and what to turn there, 1 byte. cut
// is how many bytes are lost at the end. With mend, the meta pages get the
// checksums that they should have, so that what they say is believed.
func FuzzHarmedFile(f *testing.F) {
	whole := sampleFile(f)
	at := func(offset, turn int) []byte {
		return append(binary.BigEndian.AppendUint32(nil, uint32(offset)), byte(turn)) //nolint:gosec // small
	}
	f.Add([]byte{}, uint32(0), false)
	f.Add([]byte{}, uint32(1), false)
	f.Add([]byte{}, uint32(len(whole)-4096), false) //nolint:gosec // small
	f.Add(at(20, 1), uint32(0), false)
	f.Add(slices.Concat(at(20, 1), at(4096+20, 1)), uint32(0), false)
	f.Add(at(16+40, 0xff), uint32(0), true)
	for page := range len(whole) / 4096 {
		for _, field := range []int{0, 8, 10, 12, 16, 20, 24, 28, 600} {
			f.Add(at(page*4096+field, 0x81), uint32(0), field%8 == 0)
		}
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, patch []byte, cut uint32, mend bool) {
		file := slices.Clone(whole)
		for p := range slices.Chunk(patch, 5) {
			if len(p) == 5 {
				file[int(binary.BigEndian.Uint32(p))%len(file)] ^= p[4]
			}
		}
		if mend {
			for _, meta := range [][]byte{file[16:80], file[4096+16 : 4096+80]} {
				sum := fnv.New64a()
				sum.Write(meta[:56])
				binary.NativeEndian.PutUint64(meta[56:], sum.Sum64())
			}
		}
		file = file[:len(file)-int(cut)%len(file)]
		_ = os.Remove(filepath.Join(dir, "log.db"))
		path := filepath.Join(dir, "log.db")
		if err := os.WriteFile(path, file, 0o600); err != nil {
			t.Fatal(err)
		}
		sound := inspected(t, path)
		db, err := boltlog.Open(path)
		if (err == nil) != sound {
			t.Fatalf("the pages are sound: %v, and Open says %v", sound, err)
		}
		if err != nil {
			if !errors.Is(err, boltlog.ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		use(t, db)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		if len(db.Faults()) == 0 {
			checkWithBolt(t, path)
		}
	})
}

// sampleFile is a file with pages of every kind: small buckets, trees, values
// that go on over pages.
func sampleFile(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sample.db")
	db, err := boltlog.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for partition, sizes := range [][]int{{10}, {3000, 9000, 10, 3000, 20}, slices.Repeat([]int{900}, 12)} {
		s := store(t, db, "activity", 3)
		first := uint64(1)
		for _, size := range sizes {
			c := encode(t, "activity", partition, first, 2, size)
			if err := s.Insert(t.Context(), c, keysOf(c)); err != nil {
				t.Fatal(err)
			}
			first = c.Last() + 1
		}
	}
	store(t, db, "user", 1)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// encode makes a commit of so many versioned events with a claim each.
func encode(t testing.TB, name string, partition int, first uint64, count, size int) events.Commit {
	t.Helper()
	evs := make([]events.Event, count)
	for i := range evs {
		at := first + uint64(i) //nolint:gosec // an index
		evs[i] = events.Event{
			ID: uuid.NewSHA1(uuid.Nil, []byte{byte(partition), byte(at)}), Type: events.ProfileVisited, Stream: uuid.UUID{byte(partition), byte(at)},
			Version: 1, OccurredAt: recorded, Data: slices.Repeat([]byte{' '}, size), Claims: []string{string(rune('a' + at))}, //nolint:gosec // small
		}
	}
	c, err := events.Encode(name, partition, first, recorded, uuid.UUID{9}, evs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func keysOf(c events.Commit) (keys []string) {
	for e := range c.Events() {
		keys = e.Keys(keys)
	}
	return keys
}

// inspected walks over all of a file and says whether Open should take it.
func inspected(t *testing.T, path string) (sound bool) {
	t.Helper()
	sound = true
	i, err := boltlog.Inspect(path, func(f boltlog.Fault) { sound = sound && f.Survived })
	if err != nil {
		if !errors.Is(err, boltlog.ErrDamaged) {
			t.Fatal(err)
		}
		return false
	}
	defer func() {
		if err := i.Close(); err != nil {
			t.Error(err)
		}
	}()
	s := i.Log("activity", 3)
	for p := range 3 {
		for e, err := range s.Entries(t.Context(), p) {
			if err != nil || e.Err != nil && !errors.Is(e.Err, events.ErrCorrupt) {
				t.Fatalf("%+v: %v", e, err)
			}
		}
		for k, err := range s.Keys(t.Context(), p) {
			if err != nil || k.Err != nil && !errors.Is(k.Err, events.ErrCorrupt) {
				t.Fatalf("%+v: %v", k, err)
			}
		}
	}
	return sound
}

// use calls everything that a log has.
func use(t *testing.T, db *boltlog.DB) {
	t.Helper()
	s, err := db.Log("activity", 3)
	if err != nil {
		return // what it was made with is harmed
	}
	for p := range 3 {
		head, err := s.Head(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, err = range s.Read(t.Context(), p, 0) {
			if err != nil && !errors.Is(err, events.ErrCorrupt) {
				t.Fatal(err)
			}
		}
		if _, err := s.ByKey(t.Context(), p, "", "\xff"); err != nil && !errors.Is(err, events.ErrCorrupt) {
			t.Fatal(err)
		}
		if _, err := s.Held(t.Context(), p, []string{"x"}); err != nil {
			t.Fatal(err)
		}
		c := encode(t, "activity", p, head+1, 1, 10)
		if err := s.Insert(t.Context(), c, nil); err != nil && !errors.Is(err, events.ErrCorrupt) && !errors.Is(err, log.ErrTaken) {
			t.Fatal(err)
		}
	}
}

func checkWithBolt(t *testing.T, path string) {
	t.Helper()
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.View(func(tx *bolt.Tx) error {
		for err := range tx.Check() {
			// Not closed: what is left of the check still reads the mapped file.
			t.Fatalf("bbolt finds: %v", err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

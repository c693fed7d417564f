package log

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/google/uuid"
)

// TestRecentIsAMapOfTheLastOnes compares it with the plain way, on IDs that repeat.
func TestRecentIsAMapOfTheLastOnes(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // a test
		size := 1 << rnd.IntN(9)
		r := newRecent(size)
		var ids []uuid.UUID // of sequences first, first+1, ...
		first := rnd.Uint64N(1000) + 1
		kinds := 1 + rnd.IntN(4*size)
		// A known ID keeps its first sequence until that is the oldest.
		known := map[uuid.UUID]uint64{}
		for n := range 6 * size {
			sequence := first + uint64(n) //nolint:gosec // an index
			if n >= size {
				old := ids[n-size]
				if known[old] == sequence-uint64(size) { //nolint:gosec // at most 256
					delete(known, old)
				}
			}
			id := numbered(rnd.IntN(kinds))
			ids = append(ids, id)
			if _, ok := known[id]; !ok {
				known[id] = sequence
			}
			r.add(id, sequence)
			for range 4 {
				id := numbered(rnd.IntN(kinds))
				want, wantOK := known[id]
				if at, ok := r.find(id); ok != wantOK || at != want {
					t.Fatalf("seed %d, size %d, after %d: found %v at %d (%t), want %d (%t)", seed, size, sequence, id, at, ok, want, wantOK)
				}
			}
		}
	}
}

func numbered(n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[8:], uint64(n)) //nolint:gosec // an index
	return id
}

// BenchmarkRecent is what each event costs a writer: found to be new, and remembered;
// beside a map with a ring of what is in it.
func BenchmarkRecent(b *testing.B) {
	next := func(rnd *rand.Rand) (id uuid.UUID) {
		binary.BigEndian.PutUint64(id[:], rnd.Uint64())
		binary.BigEndian.PutUint64(id[8:], rnd.Uint64())
		return id
	}
	const partitions = 16
	b.Run("recent", func(b *testing.B) {
		rnd := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // a benchmark
		all := make([]recent, partitions)
		for i := range all {
			all[i] = newRecent(Window)
		}
		b.ReportAllocs()
		for n := uint64(1); b.Loop(); n++ {
			id, r := next(rnd), &all[n%partitions]
			if _, ok := r.find(id); !ok {
				r.add(id, n/partitions+1)
			}
		}
	})
	b.Run("map", func(b *testing.B) {
		rnd := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // a benchmark
		type ringed struct {
			byID map[uuid.UUID]uint64
			ring [Window]uuid.UUID
		}
		all := make([]ringed, partitions)
		for i := range all {
			all[i].byID = make(map[uuid.UUID]uint64)
		}
		b.ReportAllocs()
		for n := uint64(1); b.Loop(); n++ {
			id, r := next(rnd), &all[n%partitions]
			if _, ok := r.byID[id]; !ok {
				at := n / partitions
				delete(r.byID, r.ring[at%Window])
				r.ring[at%Window] = id
				r.byID[id] = at
			}
		}
	})
}

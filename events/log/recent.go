package log

import (
	"hash/maphash"

	"github.com/google/uuid"
)

// recent is where the last events of a partition stand, by their IDs: up to size of
// them, a power of two that is less than 2^32. The oldest make room for new ones.
//
// Events stand in a ring by their sequence. The table is open-addressed with linear
// probing, never more than half full, and cleared by shifting back; an entry is 32
// bits of the ID's hash and the place in the ring plus one, so that a miss, which is
// what a new ID is, touches one line of memory.
type recent struct {
	size  int
	seed  maphash.Seed
	ring  []uuid.UUID // that of sequence s at s modulo len(ring), a power of two
	table []uint64    // twice as long
	count int         // in the ring
	last  uint64      // sequence of the newest
}

// recentLeast is how many IDs there is room for at first.
const recentLeast = 64

func newRecent(size int) recent {
	return recent{size: size, seed: maphash.MakeSeed()}
}

// find says where an ID stands.
func (r *recent) find(id uuid.UUID) (sequence uint64, ok bool) {
	if r.count == 0 {
		return 0, false
	}
	place, ok := r.lookup(id, r.hash(id))
	if !ok {
		return 0, false
	}
	slot := r.table[place]&slotBits - 1
	return r.last - (r.last-slot)&r.mask(), true
}

// add makes the ID that of the sequence after the last one, whichever it is the first
// time. An ID that is known keeps its first sequence.
func (r *recent) add(id uuid.UUID, sequence uint64) {
	if r.count == len(r.ring) {
		if r.count < r.size {
			r.grow()
		} else {
			r.drop(sequence & r.mask())
		}
	}
	r.ring[sequence&r.mask()] = id
	r.count++
	r.last = sequence
	r.enter(id, sequence&r.mask())
}

const (
	slotBits = 1<<32 - 1
	hashBits = ^uint64(slotBits)
)

func (r *recent) hash(id uuid.UUID) uint64 { return maphash.Comparable(r.seed, id) & hashBits }
func (r *recent) mask() uint64             { return uint64(len(r.ring)) - 1 }

// home is where in the table an entry of this hash would like to be.
func (r *recent) home(hash uint64) uint64 { return hash >> 32 & (uint64(len(r.table)) - 1) }

// lookup returns the place in the table of the ID's entry, or the free one where it
// would be.
func (r *recent) lookup(id uuid.UUID, hash uint64) (place uint64, ok bool) {
	mask := uint64(len(r.table)) - 1
	for place = r.home(hash); ; place = (place + 1) & mask {
		entry := r.table[place]
		if entry == 0 {
			return place, false
		}
		if entry&hashBits == hash && r.ring[entry&slotBits-1] == id {
			return place, true
		}
	}
}

func (r *recent) enter(id uuid.UUID, slot uint64) {
	hash := r.hash(id)
	if place, known := r.lookup(id, hash); !known {
		r.table[place] = hash | (slot + 1)
	}
}

// drop forgets what stands in a slot of the ring.
func (r *recent) drop(slot uint64) {
	r.count--
	id := r.ring[slot]
	hole, known := r.lookup(id, r.hash(id))
	if !known || r.table[hole]&slotBits-1 != slot {
		return // the entry was of the ID's first place, which is gone
	}
	mask := uint64(len(r.table)) - 1
	for next := (hole + 1) & mask; r.table[next] != 0; next = (next + 1) & mask {
		// What may stand in the hole is what would have been put there.
		if (next-r.home(r.table[next]))&mask >= (next-hole)&mask {
			r.table[hole] = r.table[next]
			hole = next
		}
	}
	r.table[hole] = 0
}

func (r *recent) grow() {
	old := *r
	n := min(max(2*len(old.ring), recentLeast), r.size)
	r.ring, r.table = make([]uuid.UUID, n), make([]uint64, 2*n)
	for i := range uint64(old.count) {
		sequence := old.last - uint64(old.count) + 1 + i
		id := old.ring[sequence&old.mask()]
		r.ring[sequence&r.mask()] = id
		r.enter(id, sequence&r.mask())
	}
}

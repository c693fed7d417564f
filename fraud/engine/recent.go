package engine

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// recent is a set of targets in the order in which each was last seen. Its nodes
// are linked in that order and found through an open-addressed table; a small set
// is searched through instead.
type recent struct {
	nodes  []node
	table  []uint32 // node+1, 0 where empty; its length is a power of two
	oldest uint32   // node+1
	newest uint32   // node+1
	free   uint32   // node+1, linked through newer
	n      int
}

// node is a target and when it was last seen. older and newer are node+1.
type node struct {
	target       uuid.UUID
	last         moment
	older, newer uint32
}

// searched is up to how many nodes are found faster by looking at each.
const searched = 8

// has says whether the target is in the set.
func (r *recent) has(target uuid.UUID) bool { return r.find(target) != 0 }

// find returns the target's node+1, or 0.
func (r *recent) find(target uuid.UUID) uint32 {
	if r.table == nil {
		for i := r.newest; i != 0; i = r.nodes[i-1].older {
			if r.nodes[i-1].target == target {
				return i
			}
		}
		return 0
	}
	return r.table[r.slot(target)]
}

// touch makes the target the most recently seen and says whether it is new.
func (r *recent) touch(target uuid.UUID, m moment) (fresh bool) {
	i := r.find(target)
	if i != 0 {
		r.unlink(i)
	} else {
		fresh = true
		i = r.insert(target)
	}
	n := &r.nodes[i-1]
	n.last, n.older, n.newer = m, r.newest, 0
	if r.newest != 0 {
		r.nodes[r.newest-1].newer = i
	} else {
		r.oldest = i
	}
	r.newest = i
	return fresh
}

// insert makes an unlinked node of a new target.
func (r *recent) insert(target uuid.UUID) uint32 {
	i := r.free
	if i != 0 {
		r.free = r.nodes[i-1].newer
	} else {
		r.nodes = append(r.nodes, node{})
		i = uint32(len(r.nodes)) //nolint:gosec // bounded by 64 times the threshold
	}
	r.nodes[i-1].target = target
	r.n++
	switch {
	case r.table == nil && r.n > searched, r.table != nil && 4*r.n > 3*len(r.table):
		r.rehash(i)
	case r.table != nil:
		r.table[r.slot(target)] = i
	}
	return i
}

// expired says whether the least recently seen target was last seen before from.
func (r *recent) expired(from int64) bool {
	return r.oldest != 0 && r.nodes[r.oldest-1].last.at < from
}

// pop takes the least recently seen target out. There must be one.
func (r *recent) pop() uuid.UUID {
	i := r.oldest
	target := r.nodes[i-1].target
	if r.table != nil {
		r.erase(r.slot(target))
	}
	r.unlink(i)
	r.nodes[i-1].newer = r.free
	r.free = i
	r.n--
	return target
}

func (r *recent) unlink(i uint32) {
	n := &r.nodes[i-1]
	if n.older != 0 {
		r.nodes[n.older-1].newer = n.newer
	} else {
		r.oldest = n.newer
	}
	if n.newer != 0 {
		r.nodes[n.newer-1].older = n.older
	} else {
		r.newest = n.older
	}
}

// appendEvidence appends the event in which each target was last seen.
func (r *recent) appendEvidence(sequences []uint64) []uint64 {
	for i := r.oldest; i != 0; i = r.nodes[i-1].newer {
		sequences = append(sequences, r.nodes[i-1].last.sequence)
	}
	return sequences
}

// home is where a target belongs in the table.
func (r *recent) home(target uuid.UUID) int {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	h := (binary.LittleEndian.Uint64(target[:8]) ^ binary.LittleEndian.Uint64(target[8:])*odd) * odd
	return int(h >> 33 & uint64(len(r.table)-1)) //nolint:gosec // below the table's length
}

// slot is where a target is in the table, or the empty place where it would be.
func (r *recent) slot(target uuid.UUID) int {
	mask := len(r.table) - 1
	at := r.home(target)
	for r.table[at] != 0 && r.nodes[r.table[at]-1].target != target {
		at = (at + 1) & mask
	}
	return at
}

// erase empties a place and moves up those behind it that it kept from theirs.
func (r *recent) erase(hole int) {
	mask := len(r.table) - 1
	for at := hole; ; {
		at = (at + 1) & mask
		if r.table[at] == 0 {
			break
		}
		home := r.home(r.nodes[r.table[at]-1].target)
		if (at-home)&mask >= (at-hole)&mask {
			r.table[hole] = r.table[at]
			hole = at
		}
	}
	r.table[hole] = 0
}

// rehash doubles the table and enters all linked nodes and one that is not yet.
func (r *recent) rehash(added uint32) {
	r.table = make([]uint32, max(4*searched, 2*len(r.table)))
	for i := r.oldest; i != 0; i = r.nodes[i-1].newer {
		r.table[r.slot(r.nodes[i-1].target)] = i
	}
	r.table[r.slot(r.nodes[added-1].target)] = added
}

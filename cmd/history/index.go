package history

import (
	"encoding/binary"

	"github.com/google/uuid"
)

// none stands for no place in a list.
const none = ^uint32(0)

// identity is one event ID of one log: who asked for it, and where it stands.
type identity struct {
	id uuid.UUID
	// sequence is where it stands in the log first; 0 if it is not there.
	sequence uint64
	// intent is the first that asked for it, none if nobody did; index.next leads
	// on to the others.
	intent    uint32
	partition int32
}

// index finds what is known of an ID. It is a hash table of places in a list,
// which takes a third of the memory of a map: about 44 bytes an ID.
type index struct {
	all   blocks[identity]
	slots []uint32 // places in all; a power of two of them, at most half are taken
	next  []uint32 // by intent: the next one that asks for the same ID
	of    []uint32 // by intent: its identity; none for one without an ID
}

func newIndex(expected int) *index {
	size := 1024
	for size < 2*expected {
		size *= 2
	}
	x := &index{}
	x.resize(size)
	return x
}

func (x *index) resize(size int) {
	x.slots = make([]uint32, size)
	for i := range x.slots {
		x.slots[i] = none
	}
	for i := range x.all.len() {
		x.slots[x.slot(x.all.at(i).id)] = uint32(i) //nolint:gosec // memory ends before the range does
	}
}

// slot is where the ID is, or where it belongs.
func (x *index) slot(id uuid.UUID) int {
	// Either half may be all that differs, in its upper or its lower bits.
	const mix = 0x9E3779B97F4A7C15
	h := (binary.LittleEndian.Uint64(id[:8])*mix ^ binary.LittleEndian.Uint64(id[8:])) * mix
	h ^= h >> 32
	for i := int(h & uint64(len(x.slots)-1)); ; i = (i + 1) & (len(x.slots) - 1) { //nolint:gosec // a length
		if at := x.slots[i]; at == none || x.all.at(int(at)).id == id {
			return i
		}
	}
}

// find returns the ID's identity and makes one if there is none.
func (x *index) find(id uuid.UUID) uint32 {
	slot := x.slot(id)
	if at := x.slots[slot]; at != none {
		return at
	}
	if 2*(x.all.len()+1) > len(x.slots) {
		x.resize(2 * len(x.slots))
		slot = x.slot(id)
	}
	at := uint32(x.all.len()) //nolint:gosec // memory ends before the range does
	x.all.add(identity{id: id, intent: none})
	x.slots[slot] = at
	return at
}

// ask adds everything that was asked of a log.
func (x *index) ask(r *Recorder, log uint16) {
	n := r.intents.len()
	x.next, x.of = make([]uint32, n), make([]uint32, n)
	// From the last to the first, so that each ID leads from its first intent on.
	for i := n - 1; i >= 0; i-- {
		x.next[i], x.of[i] = none, none
		in := r.intents.at(i)
		if in.id == uuid.Nil || r.calls.at(int(in.call)).log != log {
			continue
		}
		at := x.find(in.id)
		x.of[i] = at
		e := x.all.at(int(at))
		x.next[i], e.intent = e.intent, uint32(i) //nolint:gosec // memory ends before the range does
	}
}

// asked yields the intents that asked for the identity's ID, in the order of their
// calls.
func (x *index) asked(at uint32) func(yield func(intent uint32) bool) {
	return func(yield func(uint32) bool) {
		for i := x.all.at(int(at)).intent; i != none && yield(i); i = x.next[i] {
		}
	}
}

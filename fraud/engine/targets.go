package engine

// targets is what is kept of the users that a key met: an entry each, in the order in
// which they were last seen. Rules that look at the same events share it, each with a
// cursor of its own.
//
// The entries stand in a block from first on. Where a target is seen again its old
// entry dies in its place, and once the block is full it is moved without the dead.
// Few entries are searched through; of more, a table says where each target's is.
type targets struct {
	header  int
	keep    int   // how many targets there are at most, but for one more
	length  int64 // as that of moments
	cursors []cursor
}

const (
	setBlock = iota
	setClass
	setFirst // no entry before it is alive
	setEnd   // behind the last entry
	setLive
	setTable
	setTableClass
	setWords
)

// searched is up to how many entries are found faster by looking at each.
const searched = 32

// cursor is how far back a rule looks: it counts the targets from a place on. Where it
// stands in a key's words there are the place and the count.
type cursor struct {
	at   int
	most int // targets that it counts
}

const (
	cursorPlace = iota
	cursorCount
	cursorWords
)

func (c cursor) count(w []uint32) int { return int(w[c.at+cursorCount]) }

// find is the place of the target's entry, or -1.
func (t *targets) find(g *Engine, w []uint32, target uint32) int {
	h := w[t.header : t.header+setWords]
	if h[setLive] == 0 {
		return -1
	}
	entries := g.entries.block(h[setBlock], h[setClass])
	if h[setTableClass] == 0 {
		for i := int(h[setEnd]) - 1; i >= int(h[setFirst]); i-- {
			if entries[i].what() == target {
				return i
			}
		}
		return -1
	}
	table := g.tables.block(h[setTable], h[setTableClass])
	return int(table[slotOf(table, entries, target)]) - 1
}

// slotOf is where in the table the target is, or the empty slot where it would be. Its
// length is a power of two, and a slot holds a place plus one.
func slotOf(table []uint16, entries []entry, target uint32) int {
	mask := len(table) - 1
	at := home(target, mask)
	for table[at] != 0 && entries[table[at]-1].what() != target {
		at = (at + 1) & mask
	}
	return at
}

func home(target uint32, mask int) int {
	const odd = 0x9e3779b1 // 2^32 divided by the golden ratio
	h := target * odd
	return int(h^h>>15) & mask
}

// touch makes the event's target the most recently seen. It says where the target was
// before, -1 if nowhere, and where it is now; rules must be told with enter.
func (t *targets) touch(g *Engine, w []uint32, e entry) (before, now int) {
	h := w[t.header : t.header+setWords]
	t.forget(g, h, e.at())
	if h[setClass] == 0 {
		h[setClass] = classFor(2)
		h[setBlock] = g.entries.alloc(h[setClass])
	} else if int(h[setEnd]) == sizeOf(h[setClass]) {
		t.move(g, w)
	}
	before = t.find(g, w, e.what())
	if before >= 0 {
		t.kill(g, h, before)
	}
	now = int(h[setEnd])
	entries := g.entries.block(h[setBlock], h[setClass])
	entries[now] = e
	if h[setTableClass] != 0 {
		table := g.tables.block(h[setTable], h[setTableClass])
		table[slotOf(table, entries, e.what())] = uint16(now + 1) //nolint:gosec // below chunkSize
	}
	h[setEnd]++
	h[setLive]++
	return before, now
}

// forget lets go of what is too old or too much for every rule, as of just before an
// event: no cursor counts it any more.
func (t *targets) forget(g *Engine, h []uint32, at int64) {
	if h[setLive] == 0 {
		return
	}
	entries := g.entries.block(h[setBlock], h[setClass])
	for h[setLive] > 0 {
		e := entries[h[setFirst]]
		if e.what() != 0 {
			if int(h[setLive]) <= t.keep && (t.length == 0 || e.at() >= at-t.length) {
				return
			}
			t.kill(g, h, int(h[setFirst]))
		}
		h[setFirst]++
	}
}

// kill makes the entry in a place a dead one.
func (t *targets) kill(g *Engine, h []uint32, place int) {
	entries := g.entries.block(h[setBlock], h[setClass])
	if h[setTableClass] != 0 {
		table := g.tables.block(h[setTable], h[setTableClass])
		erase(table, entries, slotOf(table, entries, entries[place].what()))
	}
	entries[place] = entries[place].dead()
	h[setLive]--
}

// erase empties a slot and moves up those behind it that it kept from theirs.
func erase(table []uint16, entries []entry, hole int) {
	mask := len(table) - 1
	for at := hole; ; {
		at = (at + 1) & mask
		if table[at] == 0 {
			break
		}
		wanted := home(entries[table[at]-1].what(), mask)
		if (at-wanted)&mask >= (at-hole)&mask {
			table[hole] = table[at]
			hole = at
		}
	}
	table[hole] = 0
}

// move puts the living entries into a block that has room for a third more.
func (t *targets) move(g *Engine, w []uint32) {
	h := w[t.header : t.header+setWords]
	c := classFor(int(h[setLive])*4/3 + 2)
	to := g.entries.alloc(c)
	into := g.entries.block(to, c)
	n := 0
	for _, e := range g.entries.block(h[setBlock], h[setClass])[h[setFirst]:h[setEnd]] {
		if e.what() != 0 {
			into[n] = e
			n++
		}
	}
	g.entries.release(h[setBlock], h[setClass])
	h[setBlock], h[setClass], h[setFirst], h[setEnd] = to, c, 0, uint32(n) //nolint:gosec // below chunkSize
	t.index(g, h)
	for _, c := range t.cursors { // what a cursor counts are the last ones
		w[c.at+cursorPlace] = h[setLive] - min(w[c.at+cursorCount], h[setLive])
	}
}

// index makes the table for the entries as they are, if there are many.
func (t *targets) index(g *Engine, h []uint32) {
	if h[setTableClass] != 0 {
		g.tables.release(h[setTable], h[setTableClass])
		h[setTable], h[setTableClass] = 0, 0
	}
	size := sizeOf(h[setClass])
	if size <= searched {
		return
	}
	slots := 2 * searched
	for 2*slots < 3*size {
		slots *= 2
	}
	h[setTableClass] = classFor(slots)
	h[setTable] = g.tables.alloc(h[setTableClass])
	table, entries := g.tables.block(h[setTable], h[setTableClass]), g.entries.block(h[setBlock], h[setClass])
	for i := range int(h[setEnd]) {
		table[slotOf(table, entries, entries[i].what())] = uint16(i + 1) //nolint:gosec // below chunkSize
	}
}

// drop forgets everything and says whether there was anything.
func (t *targets) drop(g *Engine, w []uint32) bool {
	h := w[t.header : t.header+setWords]
	if h[setClass] == 0 {
		return false
	}
	g.entries.release(h[setBlock], h[setClass])
	if h[setTableClass] != 0 {
		g.tables.release(h[setTable], h[setTableClass])
	}
	clear(h)
	return true
}

// next is the cursor's least recently seen target; false if it counts none.
func (t *targets) next(g *Engine, w []uint32, c cursor) (e entry, ok bool) {
	if w[c.at+cursorCount] == 0 {
		return entry{}, false
	}
	h := w[t.header : t.header+setWords]
	entries := g.entries.block(h[setBlock], h[setClass])
	for entries[w[c.at+cursorPlace]].what() == 0 {
		w[c.at+cursorPlace]++
	}
	return entries[w[c.at+cursorPlace]], true
}

// expire takes the least recently seen target out of what the cursor counts, if it was
// last seen before from.
func (t *targets) expire(g *Engine, w []uint32, c cursor, from int64) (target uint32, ok bool) {
	e, ok := t.next(g, w, c)
	if !ok || e.at() >= from {
		return 0, false
	}
	return t.pass(g, w, c), true
}

// pass takes out the least recently seen target.
func (t *targets) pass(g *Engine, w []uint32, c cursor) (target uint32) {
	e, _ := t.next(g, w, c)
	w[c.at+cursorPlace]++
	w[c.at+cursorCount]--
	return e.what()
}

// counts says whether the cursor counts a target.
func (t *targets) counts(g *Engine, w []uint32, c cursor, target uint32) bool {
	if w[c.at+cursorCount] == 0 {
		return false
	}
	place := t.find(g, w, target)
	return place >= int(w[c.at+cursorPlace])
}

// enter tells the cursor what touch said. It says whether the target is new to it,
// and which one it had to let go for it, 0 if none.
func (t *targets) enter(g *Engine, w []uint32, c cursor, before, now int) (fresh bool, dropped uint32) {
	place, count := &w[c.at+cursorPlace], &w[c.at+cursorCount]
	if *count > 0 && before >= int(*place) {
		return false, 0
	}
	if *count == 0 {
		*place = uint32(now) //nolint:gosec // below chunkSize
	}
	if *count++; int(*count) > c.most {
		return true, t.pass(g, w, c)
	}
	return true, 0
}

// evidence appends the sequences of the events in which the cursor's targets were
// last seen.
func (t *targets) evidence(g *Engine, w []uint32, c cursor, sequences []uint64) []uint64 {
	t.each(g, w, c, func(e entry) { sequences = append(sequences, e.sequence()) })
	return sequences
}

func (t *targets) each(g *Engine, w []uint32, c cursor, do func(entry)) {
	if w[c.at+cursorCount] == 0 {
		return
	}
	h := w[t.header : t.header+setWords]
	for _, e := range g.entries.block(h[setBlock], h[setClass])[w[c.at+cursorPlace]:h[setEnd]] {
		if e.what() != 0 {
			do(e)
		}
	}
}

// remove takes out a target that the cursor counts. The track must be its alone.
func (t *targets) remove(g *Engine, w []uint32, c cursor, target uint32) (e entry, ok bool) {
	if w[c.at+cursorCount] == 0 {
		return entry{}, false
	}
	h := w[t.header : t.header+setWords]
	place := t.find(g, w, target)
	if place < int(w[c.at+cursorPlace]) {
		return entry{}, false
	}
	e = g.entries.block(h[setBlock], h[setClass])[place]
	t.kill(g, h, place)
	w[c.at+cursorCount]--
	return e, true
}

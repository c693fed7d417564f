package engine

// journal is what is kept of a key's events: entries in the order of time. All rules
// with the same conditions share it, each with cursors of its own that say how far back
// it looks.
//
// A rule counts either events or targets. By a rule that counts targets an event counts
// no more once its target is seen again, in an event of the kinds that the rule looks
// at. An event that no cursor counts is dropped when the journal's block is full and its
// entries are moved. Few entries are searched through; of more, a table says where each
// target's latest of each kind is.
type journal struct {
	number  int       // among the engine's
	header  int       // where in a key's words its header is
	sets    []kindSet // of views that count targets
	views   []view
	cursors []*cursor
	next    *journal // for cursors that it has no room for
	filled  bool     // by the aggregate that has it, not by events as they come
}

// The words of a header.
const (
	journalBlock = iota
	journalClass
	journalEnd // behind the last entry
	journalTable
	journalTableClass
	journalWords
)

const (
	// maxSets is how many kinds of seeing again an entry has bits for: as many as
	// there are sets of kinds.
	maxSets = seenBits
	// searched is up to how many entries are found faster by looking at each.
	searched = 32
	// maxCounted is how many entries a journal's cursors may count together. With room for
	// half as many more they are in a block of at most three quarters of a chunk, and a
	// table of a chunk has room for those.
	maxCounted = chunkSize/2 - 2
	maxBlock   = 3 * chunkSize / 4
	// nowhere is a place that there is not.
	nowhere = -1
)

// pushed is what a journal says to an event: where it is now, and where its target was
// until now, by each set's lights.
type pushed struct {
	place  uint64 // the event's
	now    int
	before [maxSets]int
}

// entries are the key's, up to the end.
func (j *journal) entries(g *Engine, w []uint32) []entry {
	if w[j.header+journalClass] == 0 {
		return nil
	}
	return g.entries.run(w[j.header+journalBlock], int(w[j.header+journalEnd]))
}

// push takes in the latest event.
func (j *journal) push(g *Engine, w []uint32, s *sighting, told *pushed) {
	h := w[j.header : j.header+journalWords]
	if h[journalClass] == 0 {
		h[journalClass] = classFor(2)
		h[journalBlock] = g.entries.alloc(h[journalClass])
	} else if int(h[journalEnd]) == sizeOf(h[journalClass]) {
		j.move(g, w)
	}
	entries := g.entries.block(h[journalBlock], h[journalClass])
	e := newEntry(s)
	told.now = int(h[journalEnd])
	for i, kinds := range j.sets {
		if kinds.has(s.kind) {
			told.before[i] = j.latest(g, w, kinds, s.other)
			if told.before[i] != nowhere {
				entries[told.before[i]].markAgain(uint8(i)) //nolint:gosec // few
			}
		}
	}
	entries[told.now] = e
	if h[journalTableClass] != 0 {
		table := g.tables.block(h[journalTable], h[journalTableClass])
		table[slotOf(table, entries, e.whose())] = uint16(told.now + 1) //nolint:gosec // below chunkSize
	}
	h[journalEnd]++
}

// latest is the place of the target's latest event of some kinds.
func (j *journal) latest(g *Engine, w []uint32, kinds kindSet, other uint32) int {
	entries := j.entries(g, w)
	h := w[j.header : j.header+journalWords]
	if h[journalTableClass] == 0 {
		for i := len(entries) - 1; i >= 0; i-- {
			if entries[i].other() == other && kinds.has(entries[i].kind()) {
				return i
			}
		}
		return nowhere
	}
	table := g.tables.block(h[journalTable], h[journalTableClass])
	place := nowhere
	for k := range kinds.each {
		of := uint64(other)<<kindBits | uint64(k)
		place = max(place, int(table[slotOf(table, entries, of)])-1)
	}
	return place
}

// slotOf is where in the table the latest of a target and kind is, or the empty slot
// where it would be. The table's length is a power of two, and a slot holds a place
// plus one.
func slotOf(table []uint16, entries []entry, whose uint64) int {
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio
	mask := len(table) - 1
	at := int(whose*odd>>40) & mask
	for table[at] != 0 && entries[table[at]-1].whose() != whose {
		at = (at + 1) & mask
	}
	return at
}

// move puts the entries that count into a block with room for half as many more.
func (j *journal) move(g *Engine, w []uint32) {
	h := w[j.header : j.header+journalWords]
	from := g.entries.block(h[journalBlock], h[journalClass])
	for i := range j.views {
		j.views[i].first = len(from)
	}
	for _, c := range j.cursors {
		if w[c.at+cursorCount] > 0 {
			v := &j.views[c.view]
			v.first = min(v.first, int(w[c.at+cursorPlace]))
		}
	}
	g.places = append(g.places[:0], make([]uint16, len(from)+1)...)
	n := 0
	for i := range from {
		g.places[i] = uint16(n) //nolint:gosec // below chunkSize
		if j.counted(i, from[i]) {
			n++
		}
	}
	c := classFor(n*3/2 + 2)
	to := g.entries.alloc(c)
	into := g.entries.block(to, c)
	for i := range from {
		if j.counted(i, from[i]) {
			into[g.places[i]] = from[i]
		}
	}
	for _, c := range j.cursors {
		if w[c.at+cursorCount] > 0 {
			w[c.at+cursorPlace] = uint32(g.places[w[c.at+cursorPlace]])
		}
	}
	g.entries.release(h[journalBlock], h[journalClass])
	h[journalBlock], h[journalClass], h[journalEnd] = to, c, uint32(n) //nolint:gosec // below chunkSize
	j.index(g, h)
}

// counted says whether any cursor counts the entry in a place.
func (j *journal) counted(place int, e entry) bool {
	for i := range j.views {
		if v := &j.views[i]; place >= v.first && v.sees(e) {
			return true
		}
	}
	return false
}

// index makes the table for the entries as they are, if there is room for many.
func (j *journal) index(g *Engine, h []uint32) {
	if h[journalTableClass] != 0 {
		g.tables.release(h[journalTable], h[journalTableClass])
		h[journalTable], h[journalTableClass] = 0, 0
	}
	size := sizeOf(h[journalClass])
	if size <= searched || len(j.sets) == 0 {
		return
	}
	slots := 2 * searched
	for 2*slots < 3*size && slots < chunkSize {
		slots *= 2
	}
	h[journalTableClass] = classFor(slots)
	h[journalTable] = g.tables.alloc(h[journalTableClass])
	table, entries := g.tables.block(h[journalTable], h[journalTableClass]), g.entries.block(h[journalBlock], h[journalClass])
	for i := range int(h[journalEnd]) {
		table[slotOf(table, entries, entries[i].whose())] = uint16(i + 1) //nolint:gosec // below chunkSize
	}
}

// restore makes room for the entries of a snapshot, which the caller fills in and
// indexes.
func (j *journal) restore(g *Engine, w []uint32, n int) []entry {
	h := w[j.header : j.header+journalWords]
	h[journalClass] = classFor(n)
	h[journalBlock] = g.entries.alloc(h[journalClass])
	h[journalEnd] = uint32(n) //nolint:gosec // at most maxBlock
	return j.entries(g, w)
}

// settle gives everything back if no cursor counts anything any more.
func (j *journal) settle(g *Engine, w []uint32) {
	h := w[j.header : j.header+journalWords]
	if h[journalClass] == 0 {
		return
	}
	for _, c := range j.cursors {
		if w[c.at+cursorCount] > 0 {
			return
		}
	}
	g.entries.release(h[journalBlock], h[journalClass])
	if h[journalTableClass] != 0 {
		g.tables.release(h[journalTable], h[journalTableClass])
	}
	clear(h)
}

// view is what events look like to a rule.
type view struct {
	kinds   kindSet
	targets bool  // it counts targets, not events
	set     uint8 // of the journal's, by whose lights a target is seen again
	first   int   // the least place of a cursor, while entries are moved
	most    int   // that any of its cursors counts
}

func (v *view) sees(e entry) bool {
	return v.kinds.has(e.kind()) && (!v.targets || !e.again(v.set))
}

// cursor is what a rule counts of a journal: what its view sees from a place on.
type cursor struct {
	*journal
	view int // of the journal's
	at   int // where in a key's words are the place and the count
	most int // it counts
}

const (
	cursorPlace = iota
	cursorCount
	cursorWords
)

func (c *cursor) count(w []uint32) int { return int(w[c.at+cursorCount]) }
func (c *cursor) full(w []uint32) bool { return c.count(w) == c.most }

// oldest is the first entry that the cursor counts; false if it counts none.
func (c *cursor) oldest(g *Engine, w []uint32) (e entry, ok bool) {
	if w[c.at+cursorCount] == 0 {
		return entry{}, false
	}
	entries, v := c.entries(g, w), &c.views[c.view]
	for !v.sees(entries[w[c.at+cursorPlace]]) {
		w[c.at+cursorPlace]++
	}
	return entries[w[c.at+cursorPlace]], true
}

// expire lets go of the oldest entry if it happened before from.
func (c *cursor) expire(g *Engine, w []uint32, from int64) (e entry, ok bool) {
	e, ok = c.oldest(g, w)
	if !ok || e.at() >= from {
		return entry{}, false
	}
	c.pass(w)
	return e, true
}

// pass lets go of the oldest entry, at which the cursor stands.
func (c *cursor) pass(w []uint32) {
	w[c.at+cursorPlace]++
	w[c.at+cursorCount]--
}

// take counts the event that has been pushed, if it is of the view's kinds. It says
// whether it is another than were counted before, and which one had to be let go for it.
func (c *cursor) take(g *Engine, w []uint32, s *sighting) (fresh bool, dropped entry, full bool) {
	v, told := &c.views[c.view], &g.pushed[c.number]
	if !v.kinds.has(s.kind) {
		return false, entry{}, false
	}
	place, count := &w[c.at+cursorPlace], &w[c.at+cursorCount]
	if v.targets && *count > 0 && told.before[v.set] >= int(*place) {
		return false, entry{}, false
	}
	if *count == 0 {
		*place = uint32(told.now) //nolint:gosec // below chunkSize
	}
	if *count++; int(*count) <= c.most {
		return true, entry{}, false
	}
	dropped, _ = c.oldest(g, w)
	c.pass(w)
	return true, dropped, true
}

// put pushes and counts an event, in a journal that is filled by the aggregate.
func (c *cursor) put(g *Engine, w []uint32, s *sighting) {
	c.push(g, w, s, &g.pushed[c.number])
	c.take(g, w, s)
}

// find is the entry of a target that the cursor counts.
func (c *cursor) find(g *Engine, w []uint32, other uint32) (e entry, ok bool) {
	if w[c.at+cursorCount] == 0 {
		return entry{}, false
	}
	place := c.latest(g, w, c.views[c.view].kinds, other)
	if place < int(w[c.at+cursorPlace]) {
		return entry{}, false
	}
	return c.entries(g, w)[place], true
}

// each yields what the cursor counts.
func (c *cursor) each(g *Engine, w []uint32, yield func(entry) bool) {
	if w[c.at+cursorCount] == 0 {
		return
	}
	v := &c.views[c.view]
	for _, e := range c.entries(g, w)[w[c.at+cursorPlace]:] {
		if v.sees(e) && !yield(e) {
			return
		}
	}
}

// evidence appends what the cursor counts.
func (c *cursor) evidence(g *Engine, w []uint32, into []entry) []entry {
	c.each(g, w, func(e entry) bool {
		into = append(into, e)
		return true
	})
	return into
}

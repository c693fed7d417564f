package engine

// moments is what is kept of a key's latest events of some kinds: a ring of entries.
// All rules that look at the same events share it.
type moments struct {
	header int   // where in a key's words its header is
	keep   int   // how many entries there are at most
	length int64 // how old they are at most, of sliding windows; 0 if it does not matter
}

// The words of a header.
const (
	ringBlock = iota
	ringClass
	ringHead // the oldest
	ringCount
	ringWords
)

func (t *moments) count(w []uint32) int { return int(w[t.header+ringCount]) }

// entry is the n-th latest, from 0.
func (t *moments) entry(g *Engine, w []uint32, n int) entry {
	h := w[t.header : t.header+ringWords]
	size := sizeOf(h[ringClass])
	at := int(h[ringHead]+h[ringCount]) - 1 - n
	if at >= size {
		at -= size
	}
	return g.entries.run(h[ringBlock], size)[at]
}

// push takes in the latest event.
func (t *moments) push(g *Engine, w []uint32, e entry) {
	h := w[t.header : t.header+ringWords]
	for t.length > 0 && h[ringCount] > 0 && g.entries.block(h[ringBlock], h[ringClass])[h[ringHead]].at() < e.at()-t.length {
		t.pop(h)
	}
	if int(h[ringCount]) == t.keep {
		t.pop(h)
	}
	switch n := int(h[ringCount]); {
	case h[ringClass] == 0:
		h[ringClass] = classFor(2)
		h[ringBlock] = g.entries.alloc(h[ringClass])
	case n == sizeOf(h[ringClass]):
		t.move(g, h, classFor(n+1))
	case n >= shrinkFrom && 4*n < sizeOf(h[ringClass]):
		t.move(g, h, classFor(2*n))
	}
	size := uint32(sizeOf(h[ringClass])) //nolint:gosec // at most chunkSize
	at := h[ringHead] + h[ringCount]
	if at >= size {
		at -= size
	}
	g.entries.block(h[ringBlock], h[ringClass])[at] = e
	h[ringCount]++
}

// shrinkFrom is from how many entries on a ring that is nearly empty gives memory back.
const shrinkFrom = 4

func (t *moments) pop(h []uint32) {
	if h[ringHead]++; int(h[ringHead]) == sizeOf(h[ringClass]) {
		h[ringHead] = 0
	}
	h[ringCount]--
}

// move puts the entries into a block of another class.
func (t *moments) move(g *Engine, h []uint32, c class) {
	to := g.entries.alloc(c)
	into, from := g.entries.block(to, c), g.entries.block(h[ringBlock], h[ringClass])
	first := from[h[ringHead]:]
	n := copy(into[:h[ringCount]], first)
	copy(into[n:h[ringCount]], from)
	g.entries.release(h[ringBlock], h[ringClass])
	h[ringBlock], h[ringClass], h[ringHead] = to, c, 0
}

// drop forgets everything and says whether there was anything.
func (t *moments) drop(g *Engine, w []uint32) bool {
	h := w[t.header : t.header+ringWords]
	if h[ringClass] == 0 {
		return false
	}
	g.entries.release(h[ringBlock], h[ringClass])
	clear(h)
	return true
}

// evidence appends the sequences of the n latest.
func (t *moments) evidence(g *Engine, w []uint32, n int, sequences []uint64) []uint64 {
	for i := range n {
		sequences = append(sequences, t.entry(g, w, n-1-i).sequence())
	}
	return sequences
}

package engine

import "math/bits"

// regularity is the aggregate regularity: whether the latest gaps, so many, are even.
// It goes by their sum and the sum of their squares, in milliseconds, in whole
// numbers, so that every machine comes to the same.
type regularity struct {
	events    *moments
	gaps      int
	variation uint64 // in percent
	length    int64  // of the window, wherever that begins
	cell      int
}

// The words of a regularity. The sums are of two words, the lower one first: a window
// of at most a day has 8.64e7 ms, and the squares of gaps that fill it come to less
// than the square of that, 7.5e15.
const (
	gapCount = iota
	gapSum
	gapSquares = gapSum + 2
	gapWords   = gapSquares + 2
)

func get64(w []uint32, at int) uint64 { return uint64(w[at]) | uint64(w[at+1])<<32 }

func put64(w []uint32, at int, v uint64) {
	w[at], w[at+1] = uint32(v), uint32(v>>32) //nolint:gosec // its halves
}

// gap is the one between the n-th latest event and the one before it.
func (a *regularity) gap(g *Engine, w []uint32, n int) uint64 {
	const micros = 1000                                                                        // of a millisecond
	return uint64(a.events.entry(g, w, n).at()/micros - a.events.entry(g, w, n+1).at()/micros) //nolint:gosec // time does not run backwards
}

func (a *regularity) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	from = max(from, s.at-a.length)
	for n := &w[a.cell+gapCount]; *n > 0 && a.events.entry(g, w, int(*n)).at() < from; *n-- {
		a.subtract(w, a.gap(g, w, int(*n)-1))
	}
	return a.reached(w)
}

func (a *regularity) after(g *Engine, w []uint32, s *sighting, from int64) bool {
	if a.events.count(w) < 2 || a.events.entry(g, w, 1).at() < max(from, s.at-a.length) {
		return false
	}
	gap := a.gap(g, w, 0)
	put64(w, a.cell+gapSum, get64(w, a.cell+gapSum)+gap)
	put64(w, a.cell+gapSquares, get64(w, a.cell+gapSquares)+gap*gap)
	if n := &w[a.cell+gapCount]; int(*n) < a.gaps {
		*n++
	} else {
		a.subtract(w, a.gap(g, w, a.gaps))
	}
	return a.reached(w)
}

func (a *regularity) subtract(w []uint32, gap uint64) {
	put64(w, a.cell+gapSum, get64(w, a.cell+gapSum)-gap)
	put64(w, a.cell+gapSquares, get64(w, a.cell+gapSquares)-gap*gap)
}

// reached is variance ÷ mean² ≤ (variation ÷ 100)², with n gaps of the sums s and q:
// (n·q − s²) · 10,000 ≤ variation² · s².
func (a *regularity) reached(w []uint32) bool {
	n, s, q := uint64(w[a.cell+gapCount]), get64(w, a.cell+gapSum), get64(w, a.cell+gapSquares)
	if int(n) != a.gaps || s == 0 {
		return false
	}
	left, leftLow := bits.Mul64(n*q-s*s, 100*100)
	right, rightLow := bits.Mul64(a.variation*a.variation, s*s)
	return left < right || left == right && leftLow <= rightLow
}

func (a *regularity) observed(*Engine, []uint32) int { return a.gaps }

func (a *regularity) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.events.evidence(g, w, a.gaps+1, sequences)
}

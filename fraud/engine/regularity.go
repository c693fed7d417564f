package engine

import "math/bits"

// regularity is the aggregate regularity: whether the latest gaps, so many, are even.
// It goes by their sum and the sum of their squares, in milliseconds, in whole
// numbers, so that every machine comes to the same.
type regularity struct {
	latest    *cursor // one event more than gaps
	variation uint64  // in percent
	length    int64   // of the window, wherever that begins
	cell      int
}

// The words of a regularity, two for each number, the lower one first. A window of at
// most a day has 8.64e7 ms, and the squares of gaps that fill it come to less than the
// square of that, 7.5e15.
const (
	gapLast    = 0 // when the latest event was
	gapSum     = 2
	gapSquares = 4
	gapWords   = 6
)

func get64(w []uint32, at int) uint64 { return uint64(w[at]) | uint64(w[at+1])<<32 }

func put64(w []uint32, at int, v uint64) {
	w[at], w[at+1] = uint32(v), uint32(v>>32) //nolint:gosec // its halves
}

func millis(at int64) uint64 { return uint64(at) / 1000 } //nolint:gosec // not before 1970

func (a *regularity) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	for {
		gone, more := a.latest.expire(g, w, max(from, s.at-a.length))
		if !more {
			return a.reached(w)
		}
		a.subtract(g, w, gone)
	}
}

func (a *regularity) after(g *Engine, w []uint32, s *sighting, _ int64) bool {
	now, alone := millis(s.at), a.latest.count(w) == 0
	gap := now - get64(w, a.cell+gapLast)
	put64(w, a.cell+gapLast, now)
	_, gone, dropped := a.latest.take(g, w, s)
	if !alone {
		put64(w, a.cell+gapSum, get64(w, a.cell+gapSum)+gap)
		put64(w, a.cell+gapSquares, get64(w, a.cell+gapSquares)+gap*gap)
	}
	if dropped {
		a.subtract(g, w, gone)
	}
	return a.reached(w)
}

// subtract takes out the gap behind an event that was the oldest.
func (a *regularity) subtract(g *Engine, w []uint32, gone entry) {
	oldest, ok := a.latest.oldest(g, w)
	if !ok {
		return
	}
	gap := millis(oldest.at()) - millis(gone.at())
	put64(w, a.cell+gapSum, get64(w, a.cell+gapSum)-gap)
	put64(w, a.cell+gapSquares, get64(w, a.cell+gapSquares)-gap*gap)
}

// reached is variance ÷ mean² ≤ (variation ÷ 100)², with n gaps of the sums s and q:
// (n·q − s²) · 10,000 ≤ variation² · s².
func (a *regularity) reached(w []uint32) bool {
	s, q := get64(w, a.cell+gapSum), get64(w, a.cell+gapSquares)
	if !a.latest.full(w) || s == 0 {
		return false
	}
	n := uint64(a.gaps()) //nolint:gosec // positive
	left, leftLow := bits.Mul64(n*q-s*s, 100*100)
	right, rightLow := bits.Mul64(a.variation*a.variation, s*s)
	return left < right || left == right && leftLow <= rightLow
}

func (a *regularity) gaps() int             { return a.latest.most - 1 }
func (a *regularity) observed([]uint32) int { return a.gaps() }

func (a *regularity) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.latest.evidence(g, w, sequences)
}

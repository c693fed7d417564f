package engine

// ratio is the aggregate ratio: how many of the latest events there are of one kind
// for 100 of the other.
type ratio struct {
	events    *moments
	volume    int
	of        kind
	threshold int
	cell      int
}

// The words of a ratio.
const (
	ratioCount = iota // the latest events in the window, up to the volume
	ratioOf           // those of them that are of the kind
	ratioWords
)

func (a *ratio) before(g *Engine, w []uint32, _ *sighting, from int64) bool {
	for n := &w[a.cell+ratioCount]; *n > 0; *n-- {
		oldest := a.events.entry(g, w, int(*n)-1)
		if oldest.at() >= from {
			break
		}
		a.add(w, oldest, -1)
	}
	return a.reached(w)
}

func (a *ratio) add(w []uint32, e entry, n int) {
	if kind(e.what()) == a.of { //nolint:gosec // it was one
		w[a.cell+ratioOf] += uint32(n) //nolint:gosec // it never falls below zero
	}
}

func (a *ratio) after(g *Engine, w []uint32, _ *sighting, _ int64) bool {
	a.add(w, a.events.entry(g, w, 0), 1)
	if n := &w[a.cell+ratioCount]; int(*n) < a.volume {
		*n++
	} else {
		a.add(w, a.events.entry(g, w, a.volume), -1)
	}
	return a.reached(w)
}

func (a *ratio) reached(w []uint32) bool {
	return int(w[a.cell+ratioCount]) == a.volume && 100*int(w[a.cell+ratioOf]) >= a.threshold*a.per(w)
}

// per is the number of events of the other kind, at least one.
func (a *ratio) per(w []uint32) int {
	return max(int(w[a.cell+ratioCount]-w[a.cell+ratioOf]), 1)
}

func (a *ratio) observed(_ *Engine, w []uint32) int { return 100 * int(w[a.cell+ratioOf]) / a.per(w) }

func (a *ratio) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.events.evidence(g, w, a.volume, sequences)
}

package memstore

import "github.com/meet5/backend/projections/views"

// applied says which changes of a partition are in the store: those up to upTo,
// but for those that were skipped, and beyond it those that came early.
type applied struct {
	upTo    uint64
	skipped map[uint64]struct{} // as many as are parked, and those given up
	early   map[uint64]struct{} // as many as a batch has
}

func newApplied() *applied {
	return &applied{skipped: make(map[uint64]struct{}), early: make(map[uint64]struct{})}
}

// take says whether a change is still to be applied, and that it now will be: as
// late, or in a batch that passes it.
func (a *applied) take(sequence uint64, late bool) bool {
	if sequence <= a.upTo {
		_, ok := a.skipped[sequence]
		delete(a.skipped, sequence)
		return ok
	}
	if _, ok := a.early[sequence]; ok {
		return false
	}
	if late {
		a.early[sequence] = struct{}{}
	}
	return true
}

// passed notes that the batch's run is worked through.
func (a *applied) passed(b views.Batch) {
	if b.Last <= a.upTo {
		return
	}
	for _, n := range b.Skipped {
		if _, ok := a.early[n]; !ok && n > a.upTo {
			a.skipped[n] = struct{}{}
		}
	}
	a.upTo = b.Last
	for n := range a.early {
		if n <= a.upTo {
			delete(a.early, n)
		}
	}
}

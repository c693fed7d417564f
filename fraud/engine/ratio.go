package engine

// ratio is the aggregate ratio: how many of the latest events there are of one kind
// for 100 of the other.
type ratio struct {
	latest    *cursor // as many as the volume
	of        kind
	threshold int
	ofs       int // the word with the number of those of the kind
}

func (a *ratio) before(g *Engine, w []uint32, _ *sighting, from int64) bool {
	for {
		gone, more := a.latest.expire(g, w, from)
		if !more {
			return a.reached(w)
		}
		a.subtract(w, gone)
	}
}

func (a *ratio) subtract(w []uint32, gone entry) {
	if gone.kind() == a.of {
		w[a.ofs]--
	}
}

func (a *ratio) after(g *Engine, w []uint32, s *sighting, _ int64) bool {
	_, gone, dropped := a.latest.take(g, w, s)
	if s.kind == a.of {
		w[a.ofs]++
	}
	if dropped {
		a.subtract(w, gone)
	}
	return a.reached(w)
}

func (a *ratio) reached(w []uint32) bool {
	return a.latest.full(w) && 100*int(w[a.ofs]) >= a.threshold*a.per(w)
}

// per is the number of events of the other kind, at least one.
func (a *ratio) per(w []uint32) int { return max(a.latest.count(w)-int(w[a.ofs]), 1) }

func (a *ratio) observed(w []uint32) int { return 100 * int(w[a.ofs]) / a.per(w) }

func (a *ratio) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.latest.evidence(g, w, sequences)
}

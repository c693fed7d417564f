package engine

// sequence is the aggregate sequence: how often an event of one kind came soon after
// one of another with the same target.
type sequence struct {
	waiting *cursor // the targets of first events
	pairs   *cursor // by turns first and then
	paired  *cursor // the targets of first events in pairs that may still be waiting
	then    kind
	within  int64
}

func (a *sequence) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	for more := true; more; {
		_, more = a.waiting.expire(g, w, s.at-a.within)
	}
	for more := true; more; {
		_, more = a.paired.expire(g, w, s.at-a.within)
	}
	// A pair is as old as its second event.
	for a.pairs.count(w) > 0 && a.pair(g, w, 0)[1].at() < from {
		a.pairs.pass(w)
		a.pairs.pass(w)
	}
	return a.pairs.full(w)
}

// pair is the n-th that the cursor counts.
func (a *sequence) pair(g *Engine, w []uint32, n int) []entry {
	first := int(w[a.pairs.at+cursorPlace]) + 2*n
	return a.pairs.entries(g, w)[first : first+2]
}

func (a *sequence) after(g *Engine, w []uint32, s *sighting, _ int64) bool {
	if s.kind != a.then {
		if _, _, dropped := a.waiting.take(g, w, s); dropped {
			g.stats.Forgotten++
		}
		return a.pairs.full(w)
	}
	first, ok := a.waiting.find(g, w, s.other)
	if !ok {
		return a.pairs.full(w)
	}
	if before, ok := a.paired.find(g, w, s.other); ok && before.place() == first.place() {
		return a.pairs.full(w)
	}
	one := sighting{at: first.at(), place: first.place(), kind: first.kind(), other: s.other}
	a.paired.put(g, w, &one)
	a.pairs.put(g, w, &one)
	a.pairs.put(g, w, s)
	return a.pairs.full(w)
}

func (a *sequence) observed([]uint32) int { return a.pairs.most / 2 }

func (a *sequence) evidence(g *Engine, w []uint32, into []entry) []entry {
	return a.pairs.evidence(g, w, into)
}

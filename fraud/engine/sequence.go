package engine

// sequence is the aggregate sequence: how often an event of one kind came soon after
// one of another with the same target.
type sequence struct {
	// latest is the targets, each by the latest event of either kind. One whose latest is
	// a first event waits; a then takes its place, whether it made a pair or came too late.
	latest *cursor
	pairs  *cursor // in a journal of its own, by turns first and then
	then   kind
	within int64
}

func (a *sequence) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	for more := true; more; {
		_, more = a.latest.expire(g, w, s.at-a.within)
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
	first, waits := a.waiting(g, w)
	if _, let, dropped := a.latest.take(g, w, s); dropped && let.kind() != a.then {
		g.stats.Forgotten++
	}
	if s.kind != a.then || !waits {
		return a.pairs.full(w)
	}
	a.pairs.put(g, w, &sighting{at: first.at(), place: first.place(), kind: first.kind(), other: s.other})
	a.pairs.put(g, w, s)
	return a.pairs.full(w)
}

// waiting is the event of the target before the one that has been pushed, if that is a
// first event in time.
func (a *sequence) waiting(g *Engine, w []uint32) (first entry, ok bool) {
	place := g.pushed[a.latest.number].before[a.latest.views[a.latest.view].set]
	if a.latest.count(w) == 0 || place < int(w[a.latest.at+cursorPlace]) {
		return entry{}, false
	}
	first = a.latest.entries(g, w)[place]
	return first, first.kind() != a.then
}

func (a *sequence) observed([]uint32) int { return a.pairs.most / 2 }

func (a *sequence) evidence(g *Engine, w []uint32, into []entry) []entry {
	return a.pairs.evidence(g, w, into)
}

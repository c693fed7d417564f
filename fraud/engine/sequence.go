package engine

// sequence is the aggregate sequence: how often an event of one kind came soon after
// one of another with the same target.
type sequence struct {
	waiting *cursor // the targets of first events
	pairs   *cursor // in a journal of its own, by turns first and then
	then    kind
	within  int64
}

func (a *sequence) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	for more := true; more; {
		_, more = a.waiting.expire(g, w, s.at-a.within)
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
	if !ok || a.taken(g, w, s, first) {
		return a.pairs.full(w)
	}
	for _, one := range []sighting{{at: first.at(), place: first.place(), kind: first.kind(), other: s.other}, *s} {
		told := &g.pushed[a.pairs.number]
		a.pairs.push(g, w, &one, told)
		a.pairs.take(g, w, &one)
	}
	return a.pairs.full(w)
}

// taken says whether a first event is in a pair already. If it is, in one that is not
// older than an event may wait.
func (a *sequence) taken(g *Engine, w []uint32, s *sighting, first entry) bool {
	for n := a.pairs.count(w)/2 - 1; n >= 0; n-- {
		switch p := a.pair(g, w, n); {
		case p[0].place() == first.place():
			return true
		case p[1].at() < s.at-a.within:
			return false
		}
	}
	return false
}

func (a *sequence) observed([]uint32) int { return a.pairs.most / 2 }

func (a *sequence) evidence(g *Engine, w []uint32, into []entry) []entry {
	return a.pairs.evidence(g, w, into)
}

package engine

// sequence is the aggregate sequence: how often an event of one kind came soon after
// one of another with the same target.
type sequence struct {
	waiting *distinct // the targets of first events that nothing has followed
	done    *moments  // the latest pairs, first and then
	then    kind
	within  int64
	pairs   int
}

func (a *sequence) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	for {
		if _, more := a.waiting.expire(g, w, a.waiting.cursor, s.at-a.within); !more {
			return a.reached(g, w, from)
		}
	}
}

func (a *sequence) after(g *Engine, w []uint32, s *sighting, from int64) bool {
	if s.kind != a.then {
		if _, dropped := a.waiting.take(g, w); dropped != 0 {
			g.stats.Forgotten++
		}
		return a.reached(g, w, from)
	}
	if first, ok := a.waiting.remove(g, w, a.waiting.cursor, s.target); ok {
		a.done.push(g, w, first)
		a.done.push(g, w, s.ofTarget())
	}
	return a.reached(g, w, from)
}

// reached goes by when pairs were completed.
func (a *sequence) reached(g *Engine, w []uint32, from int64) bool {
	return a.done.count(w) >= 2*a.pairs && a.done.entry(g, w, 2*a.pairs-2).at() >= from
}

func (a *sequence) observed(*Engine, []uint32) int { return a.pairs }

func (a *sequence) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.done.evidence(g, w, 2*a.pairs, sequences)
}

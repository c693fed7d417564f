package engine

// gate lets through events whose target the key has met in the window, or has not.
type gate struct {
	seen     *cursor
	repeated bool
}

// passes says whether the event goes through.
func (t *gate) passes(g *Engine, w []uint32, s *sighting, from int64) bool {
	for more := true; more; {
		_, more = t.seen.expire(g, w, from)
	}
	_, seen := t.seen.find(g, w, s.target)
	return seen == t.repeated
}

// take takes in the event, which has been pushed.
func (t *gate) take(g *Engine, w []uint32, s *sighting) {
	if _, _, dropped := t.seen.take(g, w, s); dropped {
		g.stats.Forgotten++
	}
}

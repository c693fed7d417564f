package engine

// waiting is how many times the threshold "both" keeps of targets that were only
// visited, or only liked.
const waiting = 64

// distinct is the aggregate distinct: the threshold most recently seen targets.
// If more were seen in the window, these are among them.
type distinct struct {
	crossing
	seen recent
}

func (d *distinct) observe(threshold int, s sighting, from int64, _ *Stats) bool {
	for d.seen.expired(from) {
		d.seen.pop()
	}
	d.before(d.seen.n == threshold)
	d.seen.keep(threshold, s)
	return d.after(d.seen.n == threshold)
}

func (d *distinct) appendEvidence(sequences []uint64) []uint64 {
	return d.seen.appendEvidence(sequences)
}

// keep takes in a target and no more than most of them.
func (r *recent) keep(most int, s sighting) {
	if r.n == most && !r.has(s.target) {
		r.pop()
	}
	r.touch(s.target, s.moment)
}

// each is paired_distinct read as so many visited and so many liked: a distinct
// for either kind.
type each struct {
	crossing
	visited, liked recent
}

func (p *each) observe(threshold int, s sighting, from int64, _ *Stats) bool {
	for p.visited.expired(from) {
		p.visited.pop()
	}
	for p.liked.expired(from) {
		p.liked.pop()
	}
	p.before(min(p.visited.n, p.liked.n) == threshold)
	if s.kind == visit {
		p.visited.keep(threshold, s)
	} else {
		p.liked.keep(threshold, s)
	}
	return p.after(min(p.visited.n, p.liked.n) == threshold)
}

func (p *each) appendEvidence(sequences []uint64) []uint64 {
	return p.liked.appendEvidence(p.visited.appendEvidence(sequences))
}

// both is paired_distinct read as so many targets each visited and liked.
type both struct {
	crossing
	visited, liked recent
	pairs          int // targets that are in both
}

func (p *both) observe(threshold int, s sighting, from int64, stats *Stats) bool {
	for p.visited.expired(from) {
		p.release(&p.visited, &p.liked)
	}
	for p.liked.expired(from) {
		p.release(&p.liked, &p.visited)
	}
	p.before(p.pairs >= threshold)
	mine, other := &p.visited, &p.liked
	if s.kind == like {
		mine, other = other, mine
	}
	if mine.touch(s.target, s.moment) {
		if other.has(s.target) {
			p.pairs++
		}
		if mine.n > waiting*threshold {
			p.release(mine, other)
			stats.Forgotten++
		}
	}
	return p.after(p.pairs >= threshold)
}

func (p *both) release(from, other *recent) {
	if other.has(from.pop()) {
		p.pairs--
	}
}

func (p *both) appendEvidence(sequences []uint64) []uint64 {
	for i := p.visited.oldest; i != 0; i = p.visited.nodes[i-1].newer {
		v := &p.visited.nodes[i-1]
		if l := p.liked.find(v.target); l != 0 {
			sequences = append(sequences, v.last.sequence, p.liked.nodes[l-1].last.sequence)
		}
	}
	return sequences
}

package engine

import (
	"fmt"

	"github.com/meet5/backend/fraud/rule"
)

// sighting is an event as rules see it.
type sighting struct {
	at       int64
	sequence uint64
	kind     kind
	target   uint32 // its number
}

func (s *sighting) ofKind() entry   { return newEntry(s.at, s.sequence, uint32(s.kind)) }
func (s *sighting) ofTarget() entry { return newEntry(s.at, s.sequence, s.target) }

// aggregate is what a rule measures. It keeps nothing itself: what it knows of a key
// is in the key's words w, and in the tracks whose headers are there. Times never run
// backwards.
type aggregate interface {
	// before lets go of what happened before from, and says whether the aggregate
	// stands at the threshold just before the event.
	before(g *Engine, w []uint32, s *sighting, from int64) (reached bool)
	// after takes in the event, which is in the tracks by now, and says whether the
	// aggregate stands at the threshold.
	after(g *Engine, w []uint32, s *sighting, from int64) (reached bool)
	// observed is what the aggregate has come to where it stands at the threshold, and
	// evidence appends the sequences of the events that it rests on.
	observed(g *Engine, w []uint32) int
	evidence(g *Engine, w []uint32, sequences []uint64) []uint64
}

// compile makes a rule's aggregate, with its part of a key's words.
func (l *layout) compile(r *Rule) aggregate {
	k, all := r.Threshold, kindsOf(r.Events...)
	switch {
	case r.Aggregate == rule.Count:
		return &counted{events: l.moments(r, all, k), threshold: k}
	case r.Aggregate == rule.Distinct:
		return l.distinct(r, all, k)
	case r.Aggregate == rule.PairedDistinct && r.Reading == rule.Each:
		return &each{visited: l.distinct(r, kindsOf(rule.Visit), k), liked: l.distinct(r, kindsOf(rule.Like), k)}
	case r.Aggregate == rule.PairedDistinct:
		most := remembered(k)
		return &both{
			visited: l.distinct(r, kindsOf(rule.Visit), most), liked: l.distinct(r, kindsOf(rule.Like), most),
			threshold: k, pairs: l.words(1),
		}
	case r.Aggregate == rule.InRatio:
		return &ratio{
			events: l.moments(r, all, r.Ratio.Volume+1), volume: r.Ratio.Volume, of: kindNamed(r.Ratio.Of),
			threshold: k, cell: l.words(ratioWords),
		}
	case r.Aggregate == rule.InRegularity:
		return &regularity{
			events: l.moments(r, all, k+2), gaps: k, variation: uint64(r.Regularity.Variation), //nolint:gosec // 0 to 100
			length: r.window.length, cell: l.words(gapWords),
		}
	case r.Aggregate == rule.InSequence:
		return &sequence{
			waiting: l.own(r, forWaiting, kindsOf(r.Sequence.First), remembered(k), micros(r.Sequence.Within)),
			done:    l.ownMoments(r, 2*k), then: kindNamed(r.Sequence.Then), within: micros(r.Sequence.Within), pairs: k,
		}
	}
	panic(fmt.Errorf("no aggregate %s %s", r.Aggregate, r.Reading)) // Validate lets no other through
}

const (
	// waiting is how many times the threshold a rule remembers of targets of which
	// one half of what it looks for has happened, and rememberedMost bounds that.
	waiting        = 64
	rememberedMost = 16_384
)

// remembered is how many targets a rule with a threshold remembers that wait for
// something else to happen.
func remembered(threshold int) int {
	return min(waiting*threshold, max(rememberedMost, 2*threshold))
}

// counted is the aggregate count.
type counted struct {
	events    *moments
	threshold int
}

func (a *counted) before(g *Engine, w []uint32, _ *sighting, from int64) bool {
	return a.events.count(w) >= a.threshold && a.events.entry(g, w, a.threshold-1).at() >= from
}

func (a *counted) after(g *Engine, w []uint32, s *sighting, from int64) bool {
	return a.before(g, w, s, from)
}

func (a *counted) observed(*Engine, []uint32) int { return a.threshold }

func (a *counted) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.events.evidence(g, w, a.threshold, sequences)
}

// distinct is the aggregate distinct: the threshold most recently seen targets. If
// more were seen in the window, these are among them.
type distinct struct {
	*targets
	cursor cursor
	kinds  kindSet
}

func (a *distinct) before(g *Engine, w []uint32, _ *sighting, from int64) bool {
	for {
		if _, more := a.expire(g, w, a.cursor, from); !more {
			return a.full(w)
		}
	}
}

func (a *distinct) after(g *Engine, w []uint32, s *sighting, _ int64) bool {
	if a.kinds.has(s.kind) {
		a.take(g, w)
	}
	return a.full(w)
}

// take takes in the event that the track has taken in.
func (a *distinct) take(g *Engine, w []uint32) (fresh bool, dropped uint32) {
	return a.enter(g, w, a.cursor, g.touched[a.header].before, g.touched[a.header].now)
}

func (a *distinct) full(w []uint32) bool { return a.cursor.count(w) == a.cursor.most }

func (a *distinct) observed(*Engine, []uint32) int { return a.cursor.most }

func (a *distinct) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.targets.evidence(g, w, a.cursor, sequences)
}

// each is paired_distinct read as so many visited and so many liked.
type each struct{ visited, liked *distinct }

func (a *each) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	visited, liked := a.visited.before(g, w, s, from), a.liked.before(g, w, s, from)
	return visited && liked
}

func (a *each) after(g *Engine, w []uint32, s *sighting, from int64) bool {
	visited, liked := a.visited.after(g, w, s, from), a.liked.after(g, w, s, from)
	return visited && liked
}

func (a *each) observed(*Engine, []uint32) int { return a.visited.cursor.most }

func (a *each) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	return a.liked.evidence(g, w, a.visited.evidence(g, w, sequences))
}

// both is paired_distinct read as so many targets each visited and liked.
type both struct {
	visited, liked *distinct
	threshold      int
	pairs          int // the word with the number of targets that are in both
}

func (a *both) before(g *Engine, w []uint32, _ *sighting, from int64) bool {
	a.expire(g, w, a.visited, a.liked, from)
	a.expire(g, w, a.liked, a.visited, from)
	return a.reached(w)
}

func (a *both) reached(w []uint32) bool { return int(w[a.pairs]) >= a.threshold }

func (a *both) expire(g *Engine, w []uint32, mine, other *distinct, from int64) {
	for {
		target, more := mine.expire(g, w, mine.cursor, from)
		if !more {
			return
		}
		a.unpair(g, w, other, target)
	}
}

func (a *both) unpair(g *Engine, w []uint32, other *distinct, target uint32) {
	if other.counts(g, w, other.cursor, target) {
		w[a.pairs]--
	}
}

func (a *both) after(g *Engine, w []uint32, s *sighting, _ int64) bool {
	mine, other := a.visited, a.liked
	if s.kind == like {
		mine, other = other, mine
	}
	fresh, dropped := mine.take(g, w)
	if fresh && other.counts(g, w, other.cursor, s.target) {
		w[a.pairs]++
	}
	if dropped != 0 {
		a.unpair(g, w, other, dropped)
		g.stats.Forgotten++
	}
	return a.reached(w)
}

func (a *both) observed(_ *Engine, w []uint32) int { return int(w[a.pairs]) }

func (a *both) evidence(g *Engine, w []uint32, sequences []uint64) []uint64 {
	liked := make(map[uint32]uint64)
	a.liked.each(g, w, a.liked.cursor, func(e entry) { liked[e.what()] = e.sequence() })
	a.visited.each(g, w, a.visited.cursor, func(e entry) {
		if l, ok := liked[e.what()]; ok {
			sequences = append(sequences, e.sequence(), l)
		}
	})
	return sequences
}

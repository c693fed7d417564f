package engine

import (
	"fmt"

	"github.com/meet5/backend/fraud/rule"
)

// sighting is an event as rules see it.
type sighting struct {
	at    int64
	place uint64 // the event's; see Engine.placeOf
	kind  kind
	other uint32 // the number of the user on the other side from the key
	// joined is when the actor's account was made.
	joined int64
	target target
}

// aggregate is what a rule measures. It keeps nothing itself: what it knows of a key
// is in the key's words w, and in the journals whose headers are there. Times never run
// backwards.
type aggregate interface {
	// before lets go of what happened before from, and says whether the aggregate
	// stands at the threshold just before the event.
	before(g *Engine, w []uint32, s *sighting, from int64) (reached bool)
	// after takes in the event, which has been pushed into the rule's journal, and
	// says whether the aggregate stands at the threshold.
	after(g *Engine, w []uint32, s *sighting, from int64) (reached bool)
	// observed is what the aggregate has come to where it stands at the threshold, and
	// evidence appends the events that it rests on.
	observed(w []uint32) int
	evidence(g *Engine, w []uint32, into []entry) []entry
}

// compile makes a rule's aggregate, with its part of a key's words.
func (l *layout) compile(r *Rule) aggregate {
	k, j, all := r.Threshold, l.passed(r), kindsOf(r.Events...)
	switch r.Aggregate {
	case rule.Count:
		return &counted{l.events(r, j, all, k)}
	case rule.Distinct, rule.Burst:
		return &counted{l.targets(r, j, all, k)}
	case rule.PairedDistinct:
		most := k
		if r.Reading == rule.Both {
			most = r.Waiting()
		}
		visited, liked := l.targets(r, j, kindsOf(rule.Visit), most), l.targets(r, j, kindsOf(rule.Like), most)
		if r.Reading == rule.Each {
			return &each{counted{visited}, counted{liked}}
		}
		return &both{visited: visited, liked: liked, threshold: k, pairs: l.words(r, 1)}
	case rule.InRatio:
		return &ratio{latest: l.events(r, j, all, r.Ratio.Volume), of: kindNamed(r.Ratio.Of), threshold: k, ofs: l.words(r, 1)}
	case rule.InRegularity:
		return &regularity{
			latest: l.events(r, j, all, k+1), variation: uint64(r.Regularity.Variation), //nolint:gosec // 0 to 100
			length: r.window.length, cell: l.words(r, gapWords),
		}
	case rule.InSequence:
		return &sequence{
			waiting: l.targets(r, j, kindsOf(r.Sequence.First), r.Waiting()), then: kindNamed(r.Sequence.Then),
			within: micros(r.Sequence.Within), pairs: l.events(r, l.filled(), all, 2*k),
			paired: l.targets(r, l.filled(), kindsOf(r.Sequence.First), r.Paired()),
		}
	}
	panic(fmt.Errorf("no aggregate %s", r.Aggregate)) // Validate lets no other through
}

// counted is the aggregates count and distinct: the latest events, or the most recently
// seen targets, up to the threshold. If there were more in the window, these are among
// them.
type counted struct{ *cursor }

func (a *counted) before(g *Engine, w []uint32, _ *sighting, from int64) bool {
	for {
		if _, more := a.expire(g, w, from); !more {
			return a.full(w)
		}
	}
}

func (a *counted) after(g *Engine, w []uint32, s *sighting, _ int64) bool {
	a.take(g, w, s)
	return a.full(w)
}

func (a *counted) observed([]uint32) int { return a.most }

// each is paired_distinct read as so many visited and so many liked.
type each struct{ visited, liked counted }

func (a *each) before(g *Engine, w []uint32, s *sighting, from int64) bool {
	visited, liked := a.visited.before(g, w, s, from), a.liked.before(g, w, s, from)
	return visited && liked
}

func (a *each) after(g *Engine, w []uint32, s *sighting, from int64) bool {
	visited, liked := a.visited.after(g, w, s, from), a.liked.after(g, w, s, from)
	return visited && liked
}

func (a *each) observed([]uint32) int { return a.visited.most }

func (a *each) evidence(g *Engine, w []uint32, into []entry) []entry {
	return a.liked.evidence(g, w, a.visited.evidence(g, w, into))
}

// both is paired_distinct read as so many targets each visited and liked.
type both struct {
	visited, liked *cursor
	threshold      int
	pairs          int // the word with the number of targets that are in both
}

func (a *both) before(g *Engine, w []uint32, _ *sighting, from int64) bool {
	a.expire(g, w, a.visited, a.liked, from)
	a.expire(g, w, a.liked, a.visited, from)
	return a.reached(w)
}

func (a *both) reached(w []uint32) bool { return int(w[a.pairs]) >= a.threshold }

func (a *both) expire(g *Engine, w []uint32, mine, other *cursor, from int64) {
	for {
		gone, more := mine.expire(g, w, from)
		if !more {
			return
		}
		a.unpair(g, w, other, gone)
	}
}

func (a *both) unpair(g *Engine, w []uint32, other *cursor, gone entry) {
	if _, paired := other.find(g, w, gone.other()); paired {
		w[a.pairs]--
	}
}

func (a *both) after(g *Engine, w []uint32, s *sighting, _ int64) bool {
	mine, other := a.visited, a.liked
	if s.kind == like {
		mine, other = other, mine
	}
	fresh, gone, dropped := mine.take(g, w, s)
	if fresh {
		if _, paired := other.find(g, w, s.other); paired {
			w[a.pairs]++
		}
	}
	if dropped {
		a.unpair(g, w, other, gone)
		g.stats.Forgotten++
	}
	return a.reached(w)
}

func (a *both) observed(w []uint32) int { return int(w[a.pairs]) }

func (a *both) evidence(g *Engine, w []uint32, into []entry) []entry {
	a.visited.each(g, w, func(e entry) bool {
		if l, ok := a.liked.find(g, w, e.other()); ok {
			into = append(into, e, l)
		}
		return true
	})
	return into
}

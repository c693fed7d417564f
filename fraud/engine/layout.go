package engine

import (
	"github.com/meet5/backend/fraud/rule"
)

// kindSet is a set of kinds, a bit each.
type kindSet uint8

func kindsOf(names ...rule.Kind) (s kindSet) {
	for _, name := range names {
		s |= 1 << kindNamed(name)
	}
	return s
}

func (s kindSet) has(k kind) bool { return s>>k&1 != 0 }

func kindNamed(name rule.Kind) kind {
	for k, n := range kindNames {
		if n == name {
			return kind(k) //nolint:gosec // few
		}
	}
	return kinds
}

// selection is which events a track takes in. Tracks of one selection are one. A
// window that begins at a moment has tracks of its own, which are dropped when it is
// over; all sliding windows share.
type selection struct {
	kinds  kindSet
	where  where
	window window // zero if it is sliding
	owner  string // the rule's ID, if the track is its alone
	use    use    // what that rule has it for
}

// use is what a rule has a track for.
type use uint8

const (
	forAggregate use = iota
	forGate
	forWaiting
)

// layout is how a key's words are laid out: headers of tracks, and what the rules keep
// of the key.
type layout struct {
	length  int // in words
	byEvent map[selection]*moments
	byUser  map[selection]*targets
}

func newLayout() *layout {
	return &layout{byEvent: make(map[selection]*moments), byUser: make(map[selection]*targets)}
}

// words makes room for so many.
func (l *layout) words(n int) (at int) {
	at = l.length
	l.length += n
	return at
}

func selectionOf(r *Rule, kinds kindSet) selection {
	s := selection{kinds: kinds, where: r.where}
	if r.gate != nil {
		s.owner = r.ID // what passes the gate is this rule's alone
	}
	if r.window.anchor != sliding {
		s.window = r.window
	}
	return s
}

// moments is the track of the rule's events of some kinds, with room for as many as
// the rule wants.
func (l *layout) moments(r *Rule, kinds kindSet, keep int) *moments {
	s := selectionOf(r, kinds)
	t := l.byEvent[s]
	if t == nil {
		t = &moments{header: l.words(ringWords)}
		l.byEvent[s] = t
	}
	t.keep = max(t.keep, keep)
	if s.window == (window{}) {
		t.length = max(t.length, r.window.length)
	}
	r.rings = append(r.rings, part[*moments]{kinds, t})
	return t
}

// ownMoments is a track that the rule fills itself.
func (l *layout) ownMoments(r *Rule, keep int) *moments {
	t := &moments{header: l.words(ringWords), keep: keep}
	r.rings = append(r.rings, part[*moments]{0, t})
	return t
}

// distinct counts, in the track of the targets of the rule's events of some kinds, up
// to so many.
func (l *layout) distinct(r *Rule, kinds kindSet, most int) *distinct {
	length := int64(0)
	if r.window.anchor == sliding {
		length = r.window.length
	}
	return l.counting(r, selectionOf(r, kinds), most, length)
}

// own is distinct in a track that is the rule's alone, of targets that were seen not
// longer ago than a length.
func (l *layout) own(r *Rule, u use, kinds kindSet, most int, length int64) *distinct {
	s := selectionOf(r, kinds)
	s.owner, s.use = r.ID, u
	return l.counting(r, s, most, length)
}

func (l *layout) counting(r *Rule, s selection, most int, length int64) *distinct {
	t := l.byUser[s]
	if t == nil {
		t = &targets{header: l.words(setWords)}
		l.byUser[s] = t
	}
	t.keep, t.length = max(t.keep, most), max(t.length, length)
	c := cursor{at: l.words(cursorWords), most: most}
	t.cursors = append(t.cursors, c)
	r.sets = append(r.sets, part[*targets]{s.kinds, t})
	return &distinct{targets: t, cursor: c, kinds: s.kinds}
}

// part is a track and the kinds of events by which the rule fills it.
type part[T any] struct {
	kinds kindSet
	track T
}

// gate lets through events whose target the key has met in the window, or has not.
type gate struct {
	seen     *distinct
	repeated bool
}

// pass says whether the event goes through, and takes it in.
func (t *gate) pass(g *Engine, w []uint32, s *sighting, from int64) bool {
	t.seen.before(g, w, s, from)
	seen := t.seen.counts(g, w, t.seen.cursor, s.target)
	g.touch(t.seen.targets, w, s)
	if _, dropped := t.seen.take(g, w); dropped != 0 {
		g.stats.Forgotten++
	}
	return seen == t.repeated
}

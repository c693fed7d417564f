package engine

import (
	"slices"

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

func (s kindSet) each(yield func(kind) bool) {
	for k := range kinds {
		if s.has(k) && !yield(k) {
			return
		}
	}
}

func kindNamed(name rule.Kind) kind {
	return kind(slices.Index(kindNames[:], name)) //nolint:gosec // Validate lets no other name through
}

// layout is how a key's words are laid out: headers of journals, and what the rules
// keep of the key.
type layout struct {
	length   int // in words
	journals []*journal
	byWhere  map[where]*journal
	users    bool // some rule counts users
}

func newLayout() *layout { return &layout{byWhere: make(map[where]*journal)} }

// words makes room for so many of a rule.
func (l *layout) words(r *Rule, n int) (at int) {
	at = l.length
	for i := range n {
		r.words = append(r.words, at+i)
	}
	l.length += n
	return at
}

// shared is the journal of all rules with the rule's conditions.
func (l *layout) shared(r *Rule) *journal {
	if l.byWhere[r.where] == nil {
		l.byWhere[r.where] = l.journal()
	}
	return l.byWhere[r.where]
}

// passed is the journal of the events that count for the rule: the shared one, or its
// own, if the rule has a gate.
func (l *layout) passed(r *Rule) *journal {
	if r.gate == nil {
		return l.shared(r)
	}
	if r.own == nil {
		r.own = l.journal()
	}
	return r.own
}

func (l *layout) journal() *journal {
	j := &journal{number: len(l.journals), header: l.length}
	l.length += journalWords
	l.journals = append(l.journals, j)
	return j
}

// events makes the rule count up to so many events of some kinds in a journal, and
// targets so many targets.
func (l *layout) events(r *Rule, j *journal, kinds kindSet, most int) *cursor {
	return l.cursor(r, j, view{kinds: kinds}, most)
}

func (l *layout) targets(r *Rule, j *journal, kinds kindSet, most int) *cursor {
	set := slices.Index(j.sets, kinds)
	if set < 0 {
		set = len(j.sets)
		j.sets = append(j.sets, kinds)
		l.users = true
	}
	return l.cursor(r, j, view{kinds: kinds, targets: true, set: uint8(set)}, most) //nolint:gosec // few
}

func (l *layout) cursor(r *Rule, j *journal, v view, most int) *cursor {
	i := slices.Index(j.views, v)
	if i < 0 {
		i = len(j.views)
		j.views = append(j.views, v)
	}
	c := &cursor{journal: j, view: i, at: l.words(r, cursorWords), most: most}
	j.cursors = append(j.cursors, c)
	r.cursors = append(r.cursors, c)
	return c
}

// rule makes a rule ready to run.
func (l *layout) rule(r rule.Rule) *Rule {
	one := &Rule{Rule: r, Version: r.Version(), window: newWindow(r.Window), where: newWhere(r.Where)}
	if r.Where.Target != "" {
		one.gate = &gate{
			seen:     l.targets(one, l.shared(one), kindsOf(r.Events...), r.Waiting()),
			repeated: r.Where.Target == rule.Repeated,
		}
	}
	if r.Aggregate == rule.InLockstep {
		return one
	}
	one.aggregate = l.compile(one)
	one.state = l.words(one, 1)
	for _, c := range one.cursors {
		if !slices.Contains(one.journals, c.journal) {
			one.journals = append(one.journals, c.journal)
		}
	}
	return one
}

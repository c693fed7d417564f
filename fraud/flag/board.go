package flag

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Snooze is how long after a dismissal, or after a confirmation was overturned,
// hits of the same rule on the same user raise nothing.
const Snooze = 30 * 24 * time.Hour

// Board is all flags in summary, folded from the fraud log. It is safe for
// concurrent use. A flag takes about 350 bytes, all indexes included.
type Board struct {
	mu     sync.RWMutex
	byID   map[uuid.UUID]*Flag
	byUser map[uuid.UUID][]*Flag
	// all flags, and those that each moderator, or nobody, has taken.
	all        shelf
	byAssignee map[uuid.UUID]shelf
	// expiring are the open flags that will expire, the first to do so first.
	expiring ordered
	// marks counts the confirmations by rules, by the day they count for.
	marks map[Day]int
	// words are the names and versions of rules, once each.
	words map[string]string
}

// NewBoard makes an empty board.
func NewBoard() *Board {
	return &Board{
		byID: make(map[uuid.UUID]*Flag), byUser: make(map[uuid.UUID][]*Flag),
		all: make(shelf), byAssignee: make(map[uuid.UUID]shelf),
		expiring: ordered{order: byExpiry}, marks: make(map[Day]int), words: make(map[string]string),
	}
}

// ReadBoard folds the whole fraud log as it stands.
func ReadBoard(ctx context.Context, fraud log.Reader) (*Board, error) {
	b := NewBoard()
	for p := range fraud.Partitions() {
		for e, err := range log.Events(ctx, fraud, p, 0) {
			if err == nil {
				err = b.Apply(e)
			}
			if err != nil {
				return nil, fmt.Errorf("read the flags: %w", err)
			}
		}
	}
	return b, nil
}

// Apply folds in an event of the fraud log; those that are about no flag, and
// those folded in already, change nothing. The error says that the event cannot
// be read.
func (b *Board) Apply(e events.Recorded) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.byID[e.Stream]
	if f == nil {
		if !strings.HasPrefix(e.Type, typePrefix) {
			return nil
		}
		f = new(Flag)
	}
	was := *f
	if err := f.Apply(e); err != nil || f.Version == was.Version {
		return err
	}
	if was.Version == 0 {
		f.Rule, f.RuleVersion = b.word(f.Rule), b.word(f.RuleVersion)
		b.byID[f.ID] = f
		b.byUser[f.User] = append(b.byUser[f.User], f)
	}
	if was.Version == 0 || was.State != f.State || was.Assignee != f.Assignee {
		b.reshelve(&was, f)
	}
	switch before, after := was.expires(), f.expires(); {
	case after && !before:
		b.expiring.insert(f)
	case before && !after:
		b.expiring.remove(f)
	}
	if e.Type == events.FlagConfirmed && e.ID == MarkID(f.ID) {
		b.marks[DayOf(e.OccurredAt)]++
	}
	return nil
}

// reshelve moves a flag to the lists that it is to be found in, from those that
// hold it as it was.
func (b *Board) reshelve(was, f *Flag) {
	if was.Version > 0 {
		b.all.remove(was.cell(), f)
		s := b.byAssignee[was.Assignee]
		if s.remove(was.cell(), f); len(s) == 0 {
			delete(b.byAssignee, was.Assignee)
		}
	}
	b.all.insert(f.cell(), f)
	s := b.byAssignee[f.Assignee]
	if s == nil {
		s = make(shelf)
		b.byAssignee[f.Assignee] = s
	}
	s.insert(f.cell(), f)
}

// word returns the one copy of a word that is kept.
func (b *Board) word(w string) string {
	if kept, ok := b.words[w]; ok {
		return kept
	}
	b.words[w] = w
	return w
}

func byTime(a, b *Flag) int {
	return cmp.Or(a.RaisedAt.Compare(b.RaisedAt), bytes.Compare(a.ID[:], b.ID[:]))
}

func byExpiry(a, b *Flag) int {
	return cmp.Or(a.ExpiresAt.Compare(b.ExpiresAt), bytes.Compare(a.ID[:], b.ID[:]))
}

// Get returns a flag.
func (b *Board) Get(id uuid.UUID) (Flag, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if f := b.byID[id]; f != nil {
		return *f, true
	}
	return Flag{}, false
}

// MostUrgent returns the unassigned flag that most needs a decision: the highest
// score, and of those the one raised first. It is of the rule, unless that is
// empty, and of at least the score.
func (b *Board) MostUrgent(rule string, minScore int) (Flag, bool) {
	q := Query{States: []State{Open, Appealed}, Rule: rule, MinScore: minScore, Assignee: new(uuid.UUID), Sort: urgency}
	b.mu.RLock()
	defer b.mu.RUnlock()
	for f := range b.each(q) {
		return *f, true
	}
	return Flag{}, false
}

// Due returns the flags that should have expired at a time, those whose time came
// first first, and at most so many.
func (b *Board) Due(now time.Time, most int) (due []Flag) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	o := &b.expiring
	for p := (at{}); len(due) < most; p = o.next(p) {
		f := o.get(p)
		if f == nil || !f.Due(now) {
			break
		}
		due = append(due, *f)
	}
	return due
}

// MarksOn is how many users rules have marked on a day.
func (b *Board) MarksOn(d Day) int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.marks[d]
}

// Covers says whether a hit of the rule on the user at a time (rule time) raises
// nothing, because a flag of theirs stands then or has been decided in their favour
// not long ago. Whether a flag whose time had come by then has been found to be
// expired makes no difference.
func (b *Board) Covers(user uuid.UUID, rule string, at time.Time) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, f := range b.byUser[user] {
		if f.Rule == rule && f.covers(at) {
			return true
		}
	}
	return false
}

// Lapsed returns the open flags of the user and rule that should have expired at a
// time (rule time): one at most, if all were raised here.
func (b *Board) Lapsed(user uuid.UUID, rule string, at time.Time) (lapsed []Flag) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, f := range b.byUser[user] {
		if f.Rule == rule && f.Due(at) {
			lapsed = append(lapsed, *f)
		}
	}
	return lapsed
}

// Rival says whether another flag of the same user and rule stands, so that this
// one must not stand, too.
func (b *Board) Rival(f Flag) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return slices.ContainsFunc(b.byUser[f.User], func(other *Flag) bool {
		return other.ID != f.ID && other.Rule == f.Rule && other.State.Stands()
	})
}

// Counts says how many flags of a rule are in each state.
func (b *Board) Counts(rule string) map[State]int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make(map[State]int)
	for c, list := range b.all {
		if c.rule == rule {
			out[c.state] += list.n
		}
	}
	return out
}

// Standing returns, by rule, the users that have a flag of it which was raised
// within a time (since included, until not, either unbounded if zero) and not
// decided in their favour.
func (b *Board) Standing(since, until time.Time) map[string][]uuid.UUID {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make(map[string][]uuid.UUID)
	for f := range b.each(Query{Since: since, Until: until, Sort: Oldest}) {
		if f.State != Dismissed && f.State != Overturned {
			out[f.Rule] = append(out[f.Rule], f.User)
		}
	}
	return out
}

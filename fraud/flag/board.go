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
// concurrent use.
type Board struct {
	mu     sync.RWMutex
	byID   map[uuid.UUID]*Flag
	byUser map[uuid.UUID][]*Flag
	// What orders go by never changes once a flag is raised, so that these are
	// only ever added to.
	byTime, byScore []*Flag
	// unassigned flags that wait for a decision, the most urgent first.
	unassigned []*Flag
}

// NewBoard makes an empty board.
func NewBoard() *Board {
	return &Board{byID: make(map[uuid.UUID]*Flag), byUser: make(map[uuid.UUID][]*Flag)}
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
	if !strings.HasPrefix(e.Type, typePrefix) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.byID[e.Stream]
	fresh := f == nil
	if fresh {
		f = new(Flag)
	}
	was := *f
	if err := f.Apply(e); err != nil {
		return err
	}
	if fresh {
		b.byID[f.ID] = f
		b.byUser[f.User] = append(b.byUser[f.User], f)
		b.byTime = insert(b.byTime, f, byTime)
		b.byScore = insert(b.byScore, f, byScore)
	}
	switch before, after := isUnassigned(&was), isUnassigned(f); {
	case after && !before:
		b.unassigned = insert(b.unassigned, f, byUrgency)
	case before && !after:
		at, _ := slices.BinarySearchFunc(b.unassigned, f, byUrgency)
		b.unassigned = slices.Delete(b.unassigned, at, at+1)
	}
	return nil
}

func isUnassigned(f *Flag) bool { return f.State.Waiting() && f.Assignee == uuid.Nil }

func insert(list []*Flag, f *Flag, order func(a, b *Flag) int) []*Flag {
	at, _ := slices.BinarySearchFunc(list, f, order)
	return slices.Insert(list, at, f)
}

func byTime(a, b *Flag) int {
	return cmp.Or(a.RaisedAt.Compare(b.RaisedAt), bytes.Compare(a.ID[:], b.ID[:]))
}

func byScore(a, b *Flag) int {
	return cmp.Or(cmp.Compare(a.Score, b.Score), byTime(a, b))
}

func byUrgency(a, b *Flag) int {
	return cmp.Or(cmp.Compare(b.Score, a.Score), byTime(a, b))
}

// MostUrgent returns the unassigned flag that most needs a decision: the highest
// score, and of those the one raised first.
func (b *Board) MostUrgent() (Flag, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if len(b.unassigned) == 0 {
		return Flag{}, false
	}
	return *b.unassigned[0], true
}

// OfUser returns the user's flags, the first raised first.
func (b *Board) OfUser(user uuid.UUID) []Flag {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make([]Flag, 0, len(b.byUser[user]))
	for _, f := range b.byUser[user] {
		out = append(out, *f)
	}
	slices.SortFunc(out, func(a, b Flag) int { return byTime(&a, &b) })
	return out
}

// Covers says whether a hit of the rule on the user at a time (rule time) raises
// nothing, because a flag of theirs stands or has been decided in their favour
// not long ago.
func (b *Board) Covers(user uuid.UUID, rule string, at time.Time) bool {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, f := range b.byUser[user] {
		if f.Rule != rule {
			continue
		}
		if cleared := f.State == Dismissed || f.State == Overturned; !cleared || at.Before(f.DecidedAt.Add(Snooze)) {
			return true
		}
	}
	return false
}

// Counts says how many flags of a rule are in each state.
func (b *Board) Counts(rule string) map[State]int {
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make(map[State]int)
	for _, f := range b.byTime {
		if f.Rule == rule {
			out[f.State]++
		}
	}
	return out
}

// Standing returns, by rule, the users that have a flag of it which was raised
// within a time (since included, until not, either unbounded if zero) and not
// decided in their favour.
func (b *Board) Standing(since, until time.Time) map[string][]uuid.UUID {
	within := Query{Since: since, Until: until}
	b.mu.RLock()
	defer b.mu.RUnlock()
	out := make(map[string][]uuid.UUID)
	for _, f := range b.byTime {
		if f.State != Dismissed && f.State != Overturned && within.matches(f) {
			out[f.Rule] = append(out[f.Rule], f.User)
		}
	}
	return out
}

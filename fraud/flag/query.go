package flag

import (
	"cmp"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Sort is the order of a listing.
type Sort string

// The orders. A minus turns one round; flags that are equal in what is sorted by
// come in the order of their raising, also turned round.
const (
	Oldest   Sort = "raised_at"
	Newest   Sort = "-raised_at"
	Mildest  Sort = "score"
	Severest Sort = "-score"
	// urgency is the order in which flags are handed out: the highest score first,
	// and of those the one raised first.
	urgency Sort = "urgency"
)

// Sorts lists all orders.
func Sorts() []Sort { return []Sort{Oldest, Newest, Mildest, Severest} }

func (s Sort) byScore() bool { return s == Mildest || s == Severest || s == urgency }

// back says whether of flags that are else equal the latest comes first.
func (s Sort) back() bool { return s == Newest || s == Severest }

// Query says which flags to list. Its zero value lists all, by raising.
type Query struct {
	States   []State   // any of these; all if empty
	Rule     string    // all if empty
	User     uuid.UUID // all if uuid.Nil
	MinScore int
	// Assignee is uuid.Nil for those that nobody has taken; all if nil.
	Assignee *uuid.UUID
	// Since and Until bound RaisedAt, Since included; unbounded if zero.
	Since, Until time.Time
	Sort         Sort
	// After is the place of the last flag of the same query's page before; nil for the
	// first.
	After *Place
	Limit int
}

// Place is a flag's place in every order.
type Place struct {
	RaisedAt time.Time `json:"at"`
	Score    int       `json:"score"`
	ID       uuid.UUID `json:"id"`
}

func (f *Flag) place() *Place { return &Place{RaisedAt: f.RaisedAt, Score: f.Score, ID: f.ID} }

// wants says whether the query asks for a cell of flags.
func (q *Query) wants(c cell) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, c.state)) &&
		(q.Rule == "" || q.Rule == c.rule) && c.score >= q.MinScore
}

// List returns the next Limit flags, and where the page after them begins, nil if
// they are the last.
func (b *Board) List(q Query) (page []Flag, next *Place) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for f := range b.each(q) {
		if len(page) == q.Limit {
			return page, page[len(page)-1].place()
		}
		page = append(page, *f)
	}
	return page, nil
}

// each yields the query's flags in order, without a limit. The caller holds mu.
func (b *Board) each(q Query) iter.Seq[*Flag] {
	on := b.all
	switch {
	case q.User != uuid.Nil:
		on = b.shelfOf(q.User, q.Assignee)
	case q.Assignee != nil:
		on = b.byAssignee[*q.Assignee]
	}
	return func(yield func(*Flag) bool) {
		var cells []cell
		for c := range on {
			if q.wants(c) {
				cells = append(cells, c)
			}
		}
		var after *Flag
		if q.After != nil {
			after = &Flag{RaisedAt: q.After.RaisedAt, Score: q.After.Score, ID: q.After.ID}
		}
		for _, group := range q.groups(cells) {
			m := merge{runs: make([]run, 0, len(group)), back: q.Sort.back(), since: q.Since, until: q.Until}
			behind := after
			if after != nil && q.Sort.byScore() {
				switch c := cmp.Compare(group[0].score, after.Score); {
				case c == 0:
				case (c < 0) == (q.Sort == Mildest):
					continue // it comes before
				default:
					behind = nil // all of it comes behind
				}
			}
			for _, c := range group {
				m.add(on[c], behind)
			}
			for f := m.next(); f != nil; f = m.next() {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// groups puts cells together whose flags come in one order by time, those first
// that the query wants first.
func (q *Query) groups(cells []cell) (groups [][]cell) {
	if len(cells) == 0 {
		return nil
	}
	if !q.Sort.byScore() {
		return [][]cell{cells}
	}
	slices.SortFunc(cells, func(a, b cell) int {
		if q.Sort == Mildest {
			return cmp.Compare(a.score, b.score)
		}
		return cmp.Compare(b.score, a.score)
	})
	first := 0
	for i := range cells {
		if i+1 == len(cells) || cells[i+1].score != cells[first].score {
			groups = append(groups, cells[first:i+1])
			first = i + 1
		}
	}
	return groups
}

// shelfOf makes a shelf of one user's flags, which are few: of a rule, one in a
// snooze or a time to live.
func (b *Board) shelfOf(user uuid.UUID, assignee *uuid.UUID) shelf {
	s := make(shelf)
	for _, f := range b.byUser[user] {
		if assignee == nil || f.Assignee == *assignee {
			s.insert(f.cell(), f)
		}
	}
	return s
}

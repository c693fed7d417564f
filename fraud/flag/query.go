package flag

import (
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
)

// Sorts lists all orders.
func Sorts() []Sort { return []Sort{Oldest, Newest, Mildest, Severest} }

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
	// After is the place of the last flag of the page before; nil for the first.
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

func (q *Query) matches(f *Flag) bool {
	return (len(q.States) == 0 || slices.Contains(q.States, f.State)) &&
		(q.Rule == "" || f.Rule == q.Rule) &&
		(q.User == uuid.Nil || f.User == q.User) &&
		f.Score >= q.MinScore &&
		(q.Assignee == nil || f.Assignee == *q.Assignee) &&
		(q.Since.IsZero() || !f.RaisedAt.Before(q.Since)) &&
		(q.Until.IsZero() || f.RaisedAt.Before(q.Until))
}

// List returns the next Limit flags, and where the page after them begins, nil if
// they are the last.
func (b *Board) List(q Query) (page []Flag, next *Place) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	list, order := b.byTime, byTime
	if q.Sort == Mildest || q.Sort == Severest {
		list, order = b.byScore, byScore
	}
	if q.User != uuid.Nil {
		list = slices.SortedFunc(slices.Values(b.byUser[q.User]), order)
	}
	from, to, step := 0, len(list), 1
	if q.Sort == Newest || q.Sort == Severest {
		from, to, step = len(list)-1, -1, -1
	}
	if q.After != nil {
		last := &Flag{RaisedAt: q.After.RaisedAt, Score: q.After.Score, ID: q.After.ID}
		at, found := slices.BinarySearchFunc(list, last, order)
		switch {
		case step < 0:
			from = at - 1
		case found:
			from = at + 1
		default:
			from = at
		}
	}
	for i := from; i != to; i += step {
		if !q.matches(list[i]) {
			continue
		}
		if len(page) == q.Limit {
			return page, page[len(page)-1].place()
		}
		page = append(page, *list[i])
	}
	return page, nil
}

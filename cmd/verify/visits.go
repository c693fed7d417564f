package verify

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/dataset"
	"github.com/meet5/backend/projections/views"
)

// pair is what a source says of one member's visits to another.
type pair struct {
	count       int64
	first, last time.Time
}

func (p *pair) String() string {
	if p == nil {
		return "nothing"
	}
	return describe(views.Visit{Count: p.count, FirstAt: p.first, LastAt: p.last})
}

// describe says what is known of visits, in words.
func describe(v views.Visit) string {
	return fmt.Sprintf("%d from %s to %s", v.Count, v.FirstAt.Format(time.RFC3339Nano), v.LastAt.Format(time.RFC3339Nano))
}

// Visits counts a source's visits, a few lines that know nothing of logs.
type Visits map[uuid.UUID]map[uuid.UUID]*pair // by actor, then target

// Add counts a row if it is a visit.
func (v Visits) Add(r dataset.Row) {
	if r.Kind != activity.Visit {
		return
	}
	of := v[r.Actor.ID]
	if of == nil {
		of = make(map[uuid.UUID]*pair)
		v[r.Actor.ID] = of
	}
	p := of[r.Target.ID]
	if p == nil {
		p = &pair{first: r.At, last: r.At}
		of[r.Target.ID] = p
	}
	p.count++
	if r.At.Before(p.first) {
		p.first = r.At
	}
	if r.At.After(p.last) {
		p.last = r.At
	}
}

// Actors is how many members visited somebody.
func (v Visits) Actors() int { return len(v) }

// Targets is how many members were visited.
func (v Visits) Targets() int { return len(v.turned()) }

// Comparisons is how many there are for Agree to make.
func (v Visits) Comparisons() int { return v.Actors() + 2*v.Targets() }

func (v Visits) turned() Visits {
	turned := make(Visits)
	for actor, of := range v {
		for target, p := range of {
			if turned[target] == nil {
				turned[target] = make(map[uuid.UUID]*pair)
			}
			turned[target][actor] = p
		}
	}
	return turned
}

// together is how many members are compared at once: on a real service most of
// the time is the way there and back.
const together = 8

// question is one comparison of what the source says of a member with what the
// read models say. The answer says what differs, and is empty if nothing does.
type question struct {
	what   string
	member uuid.UUID
	ask    func(ctx context.Context) (difference string, err error)
}

// Agree compares every list of visits and of visitors, and the stats of those who
// were visited, with the read models, and says how many differ. It reports each,
// in no order, and calls progress after each comparison; never two at once.
func (v Visits) Agree(ctx context.Context, s views.Store, report func(string), progress func()) (faults int, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var mu sync.Mutex // guards faults, err and the calls back
	var wg sync.WaitGroup
	questions := make(chan question)
	for range together {
		wg.Go(func() {
			for q := range questions {
				difference, failure := q.ask(ctx)
				mu.Lock()
				switch {
				case failure != nil && err == nil:
					err = fmt.Errorf("%s of %s: %w", q.what, q.member, failure)
					stop()
				case failure == nil && difference != "":
					faults++
					report(fmt.Sprintf("%s of %s: %s", q.what, q.member, difference))
				}
				progress()
				mu.Unlock()
			}
		})
	}
	v.questions(s, func(q question) bool {
		select {
		case questions <- q:
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(questions)
	wg.Wait()
	if err == nil {
		err = ctx.Err() // it ended before all was asked
	}
	return faults, err
}

// questions hands over all that is to be compared until ask returns false.
func (v Visits) questions(s views.Store, ask func(question) bool) {
	lists := func(of Visits, what string, list func(context.Context, uuid.UUID, views.Page) ([]views.Visit, error)) bool {
		for member, want := range of {
			if !ask(question{what, member, func(ctx context.Context) (string, error) { return compare(ctx, member, want, list) }}) {
				return false
			}
		}
		return true
	}
	turned := v.turned()
	if !lists(v, "visits", s.Visits) || !lists(turned, "visitors", s.Visitors) {
		return
	}
	for member, want := range turned {
		if !ask(question{"stats", member, func(ctx context.Context) (string, error) { return compareStats(ctx, member, want, s) }}) {
			return
		}
	}
}

func compareStats(ctx context.Context, member uuid.UUID, want map[uuid.UUID]*pair, s views.Store) (string, error) {
	total := int64(0)
	for _, p := range want {
		total += p.count
	}
	got, err := s.Stats(ctx, member)
	if err != nil || got.VisitsReceived == total && got.UniqueVisitors == int64(len(want)) {
		return "", err
	}
	return fmt.Sprintf("%d visits by %d visitors, want %d by %d", got.VisitsReceived, got.UniqueVisitors, total, len(want)), nil
}

// pageSize is how many entries of a list are read at once.
const pageSize = 1000

func compare(ctx context.Context, member uuid.UUID, want map[uuid.UUID]*pair, list func(context.Context, uuid.UUID, views.Page) ([]views.Visit, error)) (string, error) {
	seen := 0
	for page := (views.Page{Limit: pageSize}); ; {
		got, err := list(ctx, member, page)
		if err != nil {
			return "", err
		}
		for _, visit := range got {
			p := want[visit.User]
			if p == nil || p.count != visit.Count || !p.first.Equal(visit.FirstAt) || !p.last.Equal(visit.LastAt) {
				return fmt.Sprintf("those with %s are listed as %s, want %v", visit.User, describe(visit), p), nil
			}
			seen++
		}
		if len(got) < pageSize {
			break
		}
		page.After = got[len(got)-1].Mark()
	}
	if seen != len(want) {
		return fmt.Sprintf("%d are listed, want %d", seen, len(want)), nil
	}
	return "", nil
}

package verify

import (
	"context"
	"fmt"
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

// Actors is how many members visited somebody, Targets how many were visited.
func (v Visits) Actors() int { return len(v) }

// Targets is how many members were visited.
func (v Visits) Targets() int { return len(v.turned()) }

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

// Agree compares every list of visits and of visitors, and the stats of those who
// were visited, with the read models, and says how many members' differ.
func (v Visits) Agree(ctx context.Context, s views.Store, report func(string)) (faults int, err error) {
	check := func(of Visits, what string, list func(context.Context, uuid.UUID, views.Page) ([]views.Visit, error)) error {
		for member, want := range of {
			message, err := compare(ctx, member, want, list)
			if err != nil {
				return err
			}
			if message != "" {
				faults++
				report(fmt.Sprintf("%s of %s: %s", what, member, message))
			}
		}
		return nil
	}
	if err := check(v, "visits", s.Visits); err != nil {
		return faults, err
	}
	turned := v.turned()
	if err := check(turned, "visitors", s.Visitors); err != nil {
		return faults, err
	}
	for member, want := range turned {
		total := int64(0)
		for _, p := range want {
			total += p.count
		}
		got, err := s.Stats(ctx, member)
		if err != nil {
			return faults, err
		}
		if got.VisitsReceived != total || got.UniqueVisitors != int64(len(want)) {
			faults++
			report(fmt.Sprintf("stats of %s: %d visits by %d visitors, want %d by %d", member, got.VisitsReceived, got.UniqueVisitors, total, len(want)))
		}
	}
	return faults, nil
}

// pageSize is how many entries of a list are read at once.
const pageSize = 100

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
				return fmt.Sprintf("%+v is listed, want %+v", visit, p), nil
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

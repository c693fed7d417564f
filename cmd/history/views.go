package history

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/views"
)

const (
	// pageSize is how many items of a list are read at once: what a client may ask
	// for at most, so that the pages of the store under test meet each other as
	// they do for clients.
	pageSize = 100
	// comparedAtOnce is how many users are compared at a time: on a real service
	// most of the time is the way there and back.
	comparedAtOnce = 8
)

// Fold folds the activity log from its beginning to its end into read models in
// memory, and returns them with all users that it saw, actors and targets, in the
// order of their IDs. An event that cannot be read is left out with what stands
// behind it of its actor, as where it is parked.
func Fold(ctx context.Context, activity log.Reader) (views.Store, []uuid.UUID, error) {
	s := memstore.New()
	seen := make(map[uuid.UUID]bool)
	parked := make(map[uuid.UUID]uint64)
	for p := range activity.Partitions() {
		for c, err := range activity.Read(ctx, p, 0) {
			if err != nil {
				return nil, nil, fmt.Errorf("fold %s/%d: %w", activity.Name(), p, err)
			}
			b := readable(subscription.Batch{
				Log: activity.Name(), Partition: p, First: c.First, Last: c.Last(),
				Events: slices.AppendSeq(make([]events.Recorded, 0, c.Count), c.Events()),
			}, parked)
			for _, change := range b.Changes {
				seen[change.Actor] = true
				if change.Target != uuid.Nil {
					seen[change.Target] = true
				}
			}
			if err := s.Apply(ctx, b); err != nil {
				return nil, nil, fmt.Errorf("fold %s/%d from %d: %w", activity.Name(), p, c.First, err)
			}
		}
	}
	users := make([]uuid.UUID, 0, len(seen))
	for u := range seen {
		users = append(users, u)
	}
	slices.SortFunc(users, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return s, users, nil
}

// readable reads a batch without what is parked: by actor, from which sequence on. It
// parks what cannot be read.
func readable(b subscription.Batch, parked map[uuid.UUID]uint64) views.Batch {
	for {
		b.Events = slices.DeleteFunc(b.Events, func(e events.Recorded) bool {
			from, ok := parked[e.Stream]
			return ok && e.Sequence >= from
		})
		read, err := views.Read(b)
		poison, ok := errors.AsType[*subscription.PoisonError](err)
		if !ok {
			return read
		}
		for _, e := range b.Events {
			if e.Sequence == poison.Sequence {
				parked[e.Stream] = e.Sequence
			}
		}
	}
}

// CompareViews compares every list, page by page to its end, and the stats of
// each user. A user of whom anything differs is one violation, in the order of
// users; its evidence is the first item that differs in each list. The error is
// of a store that could not be asked.
func CompareViews(ctx context.Context, want, got views.Store, users []uuid.UUID) ([]Violation, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	evidence := make([][]string, len(users))
	next := make(chan int)
	var wg sync.WaitGroup
	for range comparedAtOnce {
		wg.Go(func() {
			for i := range next {
				lines, err := compareUser(ctx, want, got, users[i])
				if err != nil {
					stop(fmt.Errorf("compare the read models of %s: %w", users[i], err))
				}
				evidence[i] = lines
			}
		})
	}
	for i := 0; i < len(users) && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	found := newFindings()
	for i, lines := range evidence {
		if len(lines) > 0 {
			found.add(ReadModel, events.ActivityLog, NoPartition, func() (string, []string) {
				return fmt.Sprintf("what user %s sees is not what the log folds to", users[i]), lines
			})
		}
	}
	return found.sorted(), nil
}

// compareUser returns a line for each list that differs.
func compareUser(ctx context.Context, want, got views.Store, user uuid.UUID) (lines []string, err error) {
	for _, compare := range []func() (string, error){
		func() (string, error) {
			return compareLists(ctx, "visitors", user, want.Visitors, got.Visitors, sameVisit, sayVisit)
		},
		func() (string, error) {
			return compareLists(ctx, "visits", user, want.Visits, got.Visits, sameVisit, sayVisit)
		},
		func() (string, error) {
			return compareLists(ctx, "likes received", user, want.LikesReceived, got.LikesReceived, sameLike, sayLike)
		},
		func() (string, error) {
			return compareLists(ctx, "likes given", user, want.LikesGiven, got.LikesGiven, sameLike, sayLike)
		},
		func() (string, error) {
			return compareLists(ctx, "matches", user, want.Matches, got.Matches, sameLike, sayLike)
		},
		func() (string, error) { return compareStats(ctx, user, want, got) },
	} {
		line, err := compare()
		if err != nil {
			return nil, err
		}
		if line != "" {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// list is one of a store's queries.
type list[T any] func(context.Context, uuid.UUID, views.Page) ([]T, error)

// item is an entry of a list.
type item interface{ Mark() views.Mark }

// compareLists says where the lists differ first, and nothing if they do not.
func compareLists[T item](ctx context.Context, name string, user uuid.UUID, want, got list[T], same func(a, b T) bool, say func(T) string) (string, error) {
	place := 0 // from 1 on, newest first
	for wantPage, gotPage := (views.Page{Limit: pageSize}), (views.Page{Limit: pageSize}); ; {
		w, err := want(ctx, user, wantPage)
		if err != nil {
			return "", fmt.Errorf("%s of the fold: %w", name, err)
		}
		g, err := got(ctx, user, gotPage)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		for i := range max(len(w), len(g)) {
			place++
			switch {
			case i >= len(w):
				return fmt.Sprintf("%s: place %d lists %s; the fold ends before it", name, place, say(g[i])), nil
			case i >= len(g):
				return fmt.Sprintf("%s: the list ends before place %d; the fold has %s", name, place, say(w[i])), nil
			case !same(w[i], g[i]):
				return fmt.Sprintf("%s: place %d lists %s; the fold has %s", name, place, say(g[i]), say(w[i])), nil
			}
		}
		if len(w) < pageSize {
			return "", nil
		}
		wantPage.After, gotPage.After = w[len(w)-1].Mark(), g[len(g)-1].Mark()
	}
}

func compareStats(ctx context.Context, user uuid.UUID, want, got views.Store) (string, error) {
	w, err := want.Stats(ctx, user)
	if err != nil {
		return "", fmt.Errorf("stats of the fold: %w", err)
	}
	g, err := got.Stats(ctx, user)
	if err != nil {
		return "", fmt.Errorf("stats: %w", err)
	}
	if w == g {
		return "", nil
	}
	return fmt.Sprintf("stats: %s; the fold has %s", sayStats(g), sayStats(w)), nil
}

func sameVisit(a, b views.Visit) bool {
	return a.User == b.User && a.Count == b.Count && a.FirstAt.Equal(b.FirstAt) && a.LastAt.Equal(b.LastAt)
}

func sameLike(a, b views.Like) bool { return a.User == b.User && a.At.Equal(b.At) }

func sayVisit(v views.Visit) string {
	return fmt.Sprintf("%s with %d from %s to %s", v.User, v.Count, v.FirstAt.Format(time.RFC3339Nano), v.LastAt.Format(time.RFC3339Nano))
}

func sayLike(l views.Like) string {
	return fmt.Sprintf("%s since %s", l.User, l.At.Format(time.RFC3339Nano))
}

func sayStats(s views.Stats) string {
	return fmt.Sprintf("%d visits by %d visitors, %d likes received, %d given, %d matches",
		s.VisitsReceived, s.UniqueVisitors, s.LikesReceived, s.LikesGiven, s.Matches)
}

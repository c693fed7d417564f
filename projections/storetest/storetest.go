// Package storetest is the conformance suite of the read models: what package
// views promises, checked on a store. Every adapter's tests run both Run and
// Property.
package storetest

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/views"
)

// Subject is what is tested.
type Subject struct {
	// Open returns a store that knows nothing of users that it has not been told
	// of; it may be the same one each time, unless it minds that each history
	// starts at sequence 1.
	Open func() views.Store
	// Before returns a context whose calls run exchange each time before they
	// exchange something with whatever keeps the store. Exchange may take its time,
	// and may end the context. Nil if there is nothing to exchange.
	Before func(ctx context.Context, exchange func()) context.Context
}

// epoch is when everything happens, give or take some minutes.
var epoch = time.Date(2026, 3, 4, 5, 6, 7, 89_000, time.UTC)

// minute is n minutes after epoch.
func minute(n int) time.Time { return epoch.Add(time.Duration(n) * time.Minute) }

// people makes users that no store has met, in the order of their IDs.
func people(n int) []uuid.UUID {
	prefix := uuid.New()
	ids := make([]uuid.UUID, n)
	for i := range ids {
		ids[i] = prefix
		binary.BigEndian.PutUint32(ids[i][12:], uint32(i+1)) //nolint:gosec // a few
	}
	return ids
}

// history is what a log holds, by partition.
type history [][]events.Recorded

// add appends an event to a partition. Its sequence is the next one.
func (h history) add(partition int, kind views.Kind, actor, target uuid.UUID, at time.Time) {
	e := events.Recorded{
		Event:    events.Event{ID: uuid.New(), Stream: actor, OccurredAt: at},
		Position: events.Position{Partition: partition, Sequence: uint64(len(h[partition]) + 1)},
	}
	switch kind {
	case views.Visited:
		e.Type = events.ProfileVisited
	case views.Liked:
		e.Type = events.ProfileLiked
	case views.Withdrawn:
		e.Type = events.LikeWithdrawn
	case views.Hidden:
		e.Type, e.Data = events.ActorHidden, []byte(`{"cause":"`+uuid.NewString()+`"}`)
	case views.Restored:
		e.Type, e.Data = events.ActorRestored, []byte(`{"cause":"`+uuid.NewString()+`"}`)
	}
	if e.Data == nil {
		e.Data = events.Activity{Target: target, JoinedAt: epoch}.AppendJSON(nil)
	}
	h[partition] = append(h[partition], e)
}

// apply hands the events from to to of a partition, counted from 0, to the store,
// as a subscription would.
func (h history) apply(ctx context.Context, s views.Store, partition, from, to int) error {
	return h.without(ctx, s, partition, from, to, nil)
}

// without leaves out the events that are parked.
func (h history) without(ctx context.Context, s views.Store, partition, from, to int, parked func(events.Recorded) bool) error {
	b := subscription.Batch{
		Log: events.ActivityLog, Partition: partition, Events: h[partition][from:to],
		First: uint64(from + 1), Last: uint64(to), //nolint:gosec // a few
	}
	if parked != nil {
		b.Events = slices.DeleteFunc(slices.Clone(b.Events), parked)
	}
	return views.Handler(s)(ctx, b)
}

// late hands one event over out of turn.
func (h history) late(ctx context.Context, s views.Store, partition, at int) error {
	e := h[partition][at]
	return views.Handler(s)(ctx, subscription.Batch{
		Log: events.ActivityLog, Partition: partition, First: e.Sequence, Last: e.Sequence, Events: []events.Recorded{e}, Late: true,
	})
}

// picture is all that a store says of some users.
type picture map[uuid.UUID]portrait

type portrait struct {
	Visitors, Visits                 []views.Visit
	LikesReceived, LikesGiven, Match []views.Like
	Stats                            views.Stats
}

// whole is more than any list of a test has.
const whole = 1000

// look asks the store for everything, each list page by page.
func look(ctx context.Context, s views.Store, users []uuid.UUID, limit int) (picture, error) {
	out := make(picture, len(users))
	for _, u := range users {
		var p portrait
		var errs [6]error
		p.Visitors, errs[0] = pages(ctx, s.Visitors, u, limit, views.Visit.Mark)
		p.Visits, errs[1] = pages(ctx, s.Visits, u, limit, views.Visit.Mark)
		p.LikesReceived, errs[2] = pages(ctx, s.LikesReceived, u, limit, views.Like.Mark)
		p.LikesGiven, errs[3] = pages(ctx, s.LikesGiven, u, limit, views.Like.Mark)
		p.Match, errs[4] = pages(ctx, s.Matches, u, limit, views.Like.Mark)
		p.Stats, errs[5] = s.Stats(ctx, u)
		for _, err := range errs {
			if err != nil {
				return nil, err
			}
		}
		if err := bondsFit(ctx, s, u, users, p); err != nil {
			return nil, err
		}
		out[u] = p
	}
	return out, nil
}

// bondsFit asks for the user's bonds, which must say what the lists say.
func bondsFit(ctx context.Context, s views.Store, user uuid.UUID, others []uuid.UUID, p portrait) error {
	pairs := make([]views.Pair, len(others))
	for i, o := range others {
		pairs[i] = views.Pair{User: user, Other: o}
	}
	bonds, err := s.Bonds(ctx, pairs)
	if err != nil {
		return err
	}
	matches := make(map[uuid.UUID]time.Time)
	for _, m := range p.Match {
		matches[m.User] = m.At
	}
	seen := make(map[uuid.UUID]bool)
	for _, v := range p.Visitors {
		seen[v.User] = true
	}
	for _, l := range p.LikesReceived {
		seen[l.User] = true
	}
	for i, o := range others {
		b, listed := bonds[i], matches[o]
		if b.Hidden && seen[o] {
			return fmt.Errorf("%v is hidden by the bond with %v, and seen in their lists", o, user)
		}
		if b.Hidden {
			b.MatchedAt = time.Time{}
		}
		if !b.MatchedAt.Equal(listed) {
			return fmt.Errorf("%v and %v match since %v by the bond, %v by the list", user, o, b.MatchedAt, listed)
		}
	}
	return nil
}

func pages[T any](
	ctx context.Context, list func(context.Context, uuid.UUID, views.Page) ([]T, error),
	user uuid.UUID, limit int, mark func(T) views.Mark,
) ([]T, error) {
	var all []T
	for p := (views.Page{Limit: limit}); ; {
		items, err := list(ctx, user, p)
		if err != nil {
			return nil, err
		}
		if len(items) > limit {
			return nil, fmt.Errorf("a page of %d items, asked for %d", len(items), limit)
		}
		all = append(all, items...)
		if len(items) < limit || len(all) > whole {
			return all, nil
		}
		p.After = mark(items[limit-1])
	}
}

// scene is a store under test, with a history of one partition for each of a few
// users, so that everything can be told in the order of the test.
type scene struct {
	t       *testing.T
	store   views.Store
	users   []uuid.UUID
	history history
}

// Anna to Dora are the users of a scene, in the order of their IDs.
const (
	anna = iota
	bert
	cleo
	dora
	cast
)

func newScene(t *testing.T, s Subject) *scene {
	return &scene{t: t, store: s.Open(), users: people(cast), history: make(history, cast)}
}

// tell appends an event and applies it.
func (s *scene) tell(kind views.Kind, actor, target int, at time.Time) {
	s.t.Helper()
	s.history.add(actor, kind, s.users[actor], s.users[target], at)
	n := len(s.history[actor])
	s.apply(actor, n-1, n)
}

func (s *scene) apply(actor, from, to int) {
	s.t.Helper()
	if err := s.history.apply(s.t.Context(), s.store, actor, from, to); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) look() picture {
	s.t.Helper()
	p, err := look(s.t.Context(), s.store, s.users, whole)
	if err != nil {
		s.t.Fatal(err)
	}
	return p
}

// expect compares one user's portrait; lists that are nil must be empty.
func (s *scene) expect(user int, want portrait) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.look()[s.users[user]], emptyIsNil); diff != "" {
		s.t.Errorf("user %d: -want +got\n%s", user, diff)
	}
}

func (s *scene) visit(user, count int, first, last time.Time) views.Visit {
	return views.Visit{User: s.users[user], Count: int64(count), FirstAt: first, LastAt: last}
}

func (s *scene) like(user int, at time.Time) views.Like {
	return views.Like{User: s.users[user], At: at}
}

// emptyIsNil compares slices without telling empty ones from nil ones.
var emptyIsNil = cmp.Options{
	cmp.Transformer("visits", anySlice[views.Visit]),
	cmp.Transformer("likes", anySlice[views.Like]),
}

func anySlice[T any](items []T) []any {
	out := make([]any, len(items))
	for i := range items {
		out[i] = items[i]
	}
	return out
}

// Diff compares what two stores say of some users, list by list. It is empty if
// that is the same.
func Diff(ctx context.Context, want, got views.Store, users []uuid.UUID) (string, error) {
	a, err := look(ctx, want, users, whole)
	if err != nil {
		return "", err
	}
	b, err := look(ctx, got, users, whole)
	if err != nil {
		return "", err
	}
	return cmp.Diff(a, b, emptyIsNil), nil
}

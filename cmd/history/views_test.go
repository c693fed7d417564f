package history_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/views"
)

// person is the n-th of those who visit and like each other.
func person(n int) uuid.UUID { return uuid.UUID{0: 0xaa, 14: byte(n >> 8), 15: byte(n)} }

// act is what one person does to another, n seconds after noon.
func act(kind string, actor, target, n int) events.Event {
	return events.Event{
		ID: uuid.UUID{0: 0xee, 12: byte(actor), 13: byte(target), 14: byte(n >> 8), 15: byte(n)}, Type: kind, Stream: person(actor),
		OccurredAt: noon.Add(time.Duration(n) * time.Second),
		Data:       events.Activity{Target: person(target), JoinedAt: noon}.AppendJSON(nil),
	}
}

// fans is how many visit and like person 0: more than two pages.
const fans = 250

// activities is a log of a star and their fans, in which 1 and 2 match.
func activities(t testing.TB) *book {
	b := &book{t: t, name: events.ActivityLog, pages: make([][]page, 4)}
	put := func(e events.Event) { b.write(events.PartitionOf(e.Stream, 4), e) }
	for n := range fans {
		put(act(events.ProfileVisited, n+1, 0, n))
		put(act(events.ProfileLiked, n+1, 0, n))
	}
	put(act(events.ProfileLiked, 1, 2, 1))
	put(act(events.ProfileLiked, 2, 1, 2))
	unreadable := act(events.ProfileLiked, 3, 4, 1)
	unreadable.Data = []byte("no JSON")
	put(unreadable)
	return b
}

// apply folds a log as a subscription would, but for what leave says.
func apply(t *testing.T, b *book, leave func(events.Recorded) bool) views.Store {
	t.Helper()
	s := memstore.New()
	handle := views.Handler(s)
	for p := range b.pages {
		for c, err := range b.Read(t.Context(), p, 0) {
			if err != nil {
				t.Fatal(err)
			}
			evs := slices.Collect(c.Events())
			for i := range evs {
				if leave(evs[i]) {
					evs[i].Type = "nothing.of_the_kind.v1"
				}
			}
			batch := subscription.Batch{Log: b.name, Partition: p, First: c.First, Last: c.Last(), Events: evs}
			err := handle(t.Context(), batch)
			if poison, ok := errors.AsType[*subscription.PoisonError](err); ok { // it is the actor's last one
				batch.Events = slices.DeleteFunc(evs, func(e events.Recorded) bool { return e.Sequence == poison.Sequence })
				err = handle(t.Context(), batch)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return s
}

func fold(t *testing.T, b *book) (views.Store, []uuid.UUID) {
	t.Helper()
	s, users, err := history.Fold(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	return s, users
}

func TestTheFoldIsWhatTheLogSays(t *testing.T) {
	s, users := fold(t, activities(t))
	if len(users) != fans+1 || users[0] != person(0) || users[fans] != person(fans) {
		t.Errorf("%d users, from %s to %s", len(users), users[0], users[len(users)-1])
	}
	stats, err := s.Stats(t.Context(), person(0))
	if want := (views.Stats{VisitsReceived: fans, UniqueVisitors: fans, LikesReceived: fans}); err != nil || stats != want {
		t.Errorf("%+v, %v", stats, err)
	}
	matches, err := s.Matches(t.Context(), person(1), views.Page{Limit: 10})
	if err != nil || len(matches) != 1 || matches[0].User != person(2) || !matches[0].At.Equal(noon.Add(2*time.Second)) {
		t.Errorf("%v, %v", matches, err)
	}
}

func TestEqualReadModelsAreFoundToBe(t *testing.T) {
	b := activities(t)
	want, users := fold(t, b)
	vs, err := history.CompareViews(t.Context(), want, apply(t, b, func(events.Recorded) bool { return false }), users)
	if err != nil || len(vs) > 0 {
		t.Fatal(vs, err)
	}
}

func TestWhatDiffersInAReadModelIsShown(t *testing.T) {
	b := activities(t)
	want, users := fold(t, b)
	star, late := person(0).String(), person(3).String() // on the last page of the star's
	for _, c := range []struct {
		name  string
		leave func(events.Recorded) bool
		want  map[string][]string // by user
	}{
		{"a visit that was left out", func(e events.Recorded) bool {
			return e.ID == act(events.ProfileVisited, 3, 0, 2).ID && e.Type == events.ProfileVisited
		},
			map[string][]string{
				star: {
					"visitors: place 248 lists " + person(2).String() + " with 1 from 2026-01-01T12:00:01Z to 2026-01-01T12:00:01Z; the fold has " + late + " with 1 from 2026-01-01T12:00:02Z to 2026-01-01T12:00:02Z",
					"stats: 249 visits by 249 visitors, 250 likes received, 0 given, 0 matches; the fold has 250 visits by 250 visitors, 250 likes received, 0 given, 0 matches",
				},
				late: {"visits: the list ends before place 1; the fold has " + star + " with 1 from 2026-01-01T12:00:02Z to 2026-01-01T12:00:02Z"},
			}},
		{"a like that was left out", func(e events.Recorded) bool { return e.ID == act(events.ProfileLiked, 2, 1, 2).ID },
			map[string][]string{
				person(1).String(): {
					"likes received: the list ends before place 1; the fold has " + person(2).String() + " since 2026-01-01T12:00:02Z",
					"matches: the list ends before place 1; the fold has " + person(2).String() + " since 2026-01-01T12:00:02Z",
					"stats: 0 visits by 0 visitors, 0 likes received, 2 given, 0 matches; the fold has 0 visits by 0 visitors, 1 likes received, 2 given, 1 matches",
				},
				person(2).String(): {
					"likes given: place 1 lists " + star + " since 2026-01-01T12:00:01Z; the fold has " + person(1).String() + " since 2026-01-01T12:00:02Z",
					"matches: the list ends before place 1; the fold has " + person(1).String() + " since 2026-01-01T12:00:02Z",
					"stats: 0 visits by 0 visitors, 1 likes received, 1 given, 0 matches; the fold has 0 visits by 0 visitors, 1 likes received, 2 given, 1 matches",
				},
			}},
	} {
		t.Run(c.name, func(t *testing.T) {
			vs, err := history.CompareViews(t.Context(), want, apply(t, b, c.leave), users)
			if err != nil || len(vs) != len(c.want) {
				t.Fatal(vs, err)
			}
			for _, v := range vs {
				user := strings.Fields(v.Message)[2]
				if v.Rule != history.ReadModel || v.Log != events.ActivityLog || v.Partition != history.NoPartition || !slices.Equal(v.Evidence, c.want[user]) {
					t.Errorf("%v\nwant\n  %s", v, strings.Join(c.want[user], "\n  "))
				}
			}
		})
	}
	t.Run("a list that goes on", func(t *testing.T) {
		less, _ := fold(t, &book{t: t, name: b.name, pages: make([][]page, 4)})
		vs, err := history.CompareViews(t.Context(), less, want, []uuid.UUID{person(0)})
		if err != nil || len(vs) != 1 || !strings.HasPrefix(vs[0].Evidence[0], "visitors: place 1 lists "+person(fans).String()) || !strings.HasSuffix(vs[0].Evidence[0], "; the fold ends before it") {
			t.Error(vs, err)
		}
	})
}

// silent is a store that does not answer one question.
type silent struct{ views.Store }

var errSilent = fmt.Errorf("%w: the network", views.ErrUnavailable)

func (silent) Matches(context.Context, uuid.UUID, views.Page) ([]views.Like, error) {
	return nil, errSilent
}

func TestAStoreThatDoesNotAnswerProvesNothing(t *testing.T) {
	want, users := fold(t, activities(t))
	vs, err := history.CompareViews(t.Context(), want, silent{want}, users)
	if vs != nil || !errors.Is(err, errSilent) || !strings.Contains(err.Error(), "compare the read models of ") {
		t.Error(vs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := history.CompareViews(ctx, want, want, users); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if _, _, err := history.Fold(t.Context(), &book{t: t, name: "activity", pages: make([][]page, 1), ends: errSilent}); !errors.Is(err, errSilent) {
		t.Error(err)
	}
}

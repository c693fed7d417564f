package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/views"
)

// Run checks each rule of package views by itself.
func Run(t *testing.T, s Subject) {
	t.Helper()
	for _, c := range []struct {
		name string
		run  func(*scene)
	}{
		{"visits of a pair are counted, with the first and the last time", countVisits},
		{"a list runs from the newest to the oldest and by user where times are equal", order},
		{"a like counts once and keeps its first time", likeOnce},
		{"a withdrawn like is gone and a later one has a new time", withdraw},
		{"a withdrawal without a like changes nothing", withdrawNothing},
		{"two who like each other match since the later like until one withdraws", match},
		{"a hidden actor is out of what others see and keeps what is their own", hide},
		{"what an actor does while hidden shows when they are restored", hideThenAct},
		{"a match that comes about while one is hidden shows to that one alone", hideThenMatch},
		{"a bond says whether one is hidden and since when two match", bonds},
		{"hidden and restored in one batch is as if it had not been", hideAndRestore},
		{"an activity on oneself changes nothing", oneself},
		{"an event that cannot be read is poison and nothing of its batch is applied", unreadable},
		{"a user of whom nothing is known has empty lists", nobody},
		{"a batch that is applied again changes nothing", again},
		{"a batch that is cut anew counts each event once", cutAnew},
		{"a batch that two apply at once counts each event once", atOnce},
		{"what was skipped counts once when it comes late, however often", skippedThenLate},
		{"what comes early counts once when its batch comes", earlyThenInTurn},
		{"what two hand over, one late and one in turn, counts once", lateAtOnce},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newScene(t, s)) })
	}
}

func countVisits(s *scene) {
	s.tell(views.Visited, bert, anna, minute(5))
	s.tell(views.Visited, bert, anna, minute(2))
	s.tell(views.Visited, bert, anna, minute(9))
	s.tell(views.Visited, bert, anna, minute(7))
	s.expect(anna, portrait{
		Visitors: []views.Visit{s.visit(bert, 4, minute(2), minute(9))},
		Stats:    views.Stats{VisitsReceived: 4, UniqueVisitors: 1},
	})
	s.expect(bert, portrait{Visits: []views.Visit{s.visit(anna, 4, minute(2), minute(9))}})
}

func order(s *scene) {
	s.tell(views.Visited, bert, anna, minute(1))
	s.tell(views.Visited, dora, anna, minute(2))
	s.tell(views.Visited, cleo, anna, minute(2))
	s.tell(views.Liked, bert, anna, minute(3))
	s.tell(views.Liked, cleo, anna, minute(3))
	s.tell(views.Liked, dora, anna, minute(1))
	s.expect(anna, portrait{
		Visitors: []views.Visit{
			s.visit(dora, 1, minute(2), minute(2)), s.visit(cleo, 1, minute(2), minute(2)), s.visit(bert, 1, minute(1), minute(1)),
		},
		LikesReceived: []views.Like{s.like(cleo, minute(3)), s.like(bert, minute(3)), s.like(dora, minute(1))},
		Stats:         views.Stats{VisitsReceived: 3, UniqueVisitors: 3, LikesReceived: 3},
	})
	want := s.look()
	for limit := 1; limit <= 3; limit++ {
		got, err := look(s.t.Context(), s.store, s.users, limit)
		if err != nil {
			s.t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, emptyIsNil); diff != "" {
			s.t.Errorf("by pages of %d: -whole +paged\n%s", limit, diff)
		}
	}
}

func likeOnce(s *scene) {
	s.tell(views.Liked, bert, anna, minute(5))
	s.tell(views.Liked, bert, anna, minute(2))
	s.tell(views.Liked, bert, anna, minute(9))
	s.expect(anna, portrait{
		LikesReceived: []views.Like{s.like(bert, minute(5))},
		Stats:         views.Stats{LikesReceived: 1},
	})
	s.expect(bert, portrait{
		LikesGiven: []views.Like{s.like(anna, minute(5))},
		Stats:      views.Stats{LikesGiven: 1},
	})
}

func withdraw(s *scene) {
	s.tell(views.Liked, bert, anna, minute(5))
	s.tell(views.Withdrawn, bert, anna, minute(6))
	s.expect(anna, portrait{})
	s.expect(bert, portrait{})
	s.tell(views.Liked, bert, anna, minute(3))
	s.expect(anna, portrait{
		LikesReceived: []views.Like{s.like(bert, minute(3))},
		Stats:         views.Stats{LikesReceived: 1},
	})
}

func withdrawNothing(s *scene) {
	s.tell(views.Withdrawn, bert, anna, minute(6))
	s.expect(anna, portrait{})
	s.tell(views.Liked, anna, bert, minute(7))
	s.expect(anna, portrait{LikesGiven: []views.Like{s.like(bert, minute(7))}, Stats: views.Stats{LikesGiven: 1}})
}

func match(s *scene) {
	s.tell(views.Liked, bert, anna, minute(5))
	s.tell(views.Liked, anna, bert, minute(3))
	s.tell(views.Liked, anna, cleo, minute(3))
	s.tell(views.Liked, cleo, anna, minute(5))
	s.expect(anna, portrait{
		LikesReceived: []views.Like{s.like(cleo, minute(5)), s.like(bert, minute(5))},
		LikesGiven:    []views.Like{s.like(cleo, minute(3)), s.like(bert, minute(3))},
		Match:         []views.Like{s.like(cleo, minute(5)), s.like(bert, minute(5))},
		Stats:         views.Stats{LikesReceived: 2, LikesGiven: 2, Matches: 2},
	})
	s.tell(views.Withdrawn, bert, anna, minute(6))
	s.expect(bert, portrait{
		LikesReceived: []views.Like{s.like(anna, minute(3))},
		Stats:         views.Stats{LikesReceived: 1},
	})
	s.tell(views.Liked, bert, anna, minute(1))
	s.expect(bert, portrait{
		LikesReceived: []views.Like{s.like(anna, minute(3))},
		LikesGiven:    []views.Like{s.like(anna, minute(1))},
		Match:         []views.Like{s.like(anna, minute(3))},
		Stats:         views.Stats{LikesReceived: 1, LikesGiven: 1, Matches: 1},
	})
}

// mutual has anna and bert visit and like each other, and returns how that looks
// to anna, and to bert.
func mutual(s *scene) (toAnna, toBert portrait) {
	for _, p := range [][2]int{{anna, bert}, {bert, anna}} {
		s.tell(views.Visited, p[0], p[1], minute(1))
		s.tell(views.Liked, p[0], p[1], minute(2))
	}
	seen := func(other int) portrait {
		return portrait{
			Visitors:      []views.Visit{s.visit(other, 1, minute(1), minute(1))},
			Visits:        []views.Visit{s.visit(other, 1, minute(1), minute(1))},
			LikesReceived: []views.Like{s.like(other, minute(2))},
			LikesGiven:    []views.Like{s.like(other, minute(2))},
			Match:         []views.Like{s.like(other, minute(2))},
			Stats:         views.Stats{VisitsReceived: 1, UniqueVisitors: 1, LikesReceived: 1, LikesGiven: 1, Matches: 1},
		}
	}
	return seen(bert), seen(anna)
}

// without is the portrait of one who no longer sees the other.
func (p portrait) without() portrait {
	return portrait{Visits: p.Visits, LikesGiven: p.LikesGiven, Stats: views.Stats{LikesGiven: p.Stats.LikesGiven}}
}

func hide(s *scene) {
	toAnna, toBert := mutual(s)
	s.expect(anna, toAnna)
	s.expect(bert, toBert)
	s.tell(views.Hidden, bert, bert, minute(3))
	s.expect(anna, toAnna.without())
	s.expect(bert, toBert)
	s.tell(views.Hidden, anna, anna, minute(3))
	s.expect(anna, toAnna.without())
	s.expect(bert, toBert.without())
	s.tell(views.Restored, bert, bert, minute(4))
	s.expect(anna, toAnna)
	s.expect(bert, toBert.without())
	s.tell(views.Restored, anna, anna, minute(4))
	s.expect(anna, toAnna)
	s.expect(bert, toBert)
}

func hideThenAct(s *scene) {
	s.tell(views.Hidden, bert, bert, minute(0))
	toAnna, toBert := mutual(s)
	s.expect(anna, toAnna.without())
	s.expect(bert, toBert)
	s.tell(views.Restored, bert, bert, minute(4))
	s.expect(anna, toAnna)
	s.expect(bert, toBert)
}

func hideThenMatch(s *scene) {
	s.tell(views.Liked, bert, anna, minute(1))
	s.tell(views.Hidden, bert, bert, minute(2))
	s.tell(views.Liked, anna, bert, minute(3))
	s.expect(anna, portrait{
		LikesGiven: []views.Like{s.like(bert, minute(3))},
		Stats:      views.Stats{LikesGiven: 1},
	})
	s.expect(bert, portrait{
		LikesReceived: []views.Like{s.like(anna, minute(3))},
		LikesGiven:    []views.Like{s.like(anna, minute(1))},
		Match:         []views.Like{s.like(anna, minute(3))},
		Stats:         views.Stats{LikesReceived: 1, LikesGiven: 1, Matches: 1},
	})
}

func bonds(s *scene) {
	is := func(user, other int, want views.Bond) {
		s.t.Helper()
		got, err := s.store.Bonds(s.t.Context(), []views.Pair{{User: s.users[cleo], Other: s.users[dora]}, {User: s.users[user], Other: s.users[other]}})
		if err != nil || len(got) != 2 || got[0] != (views.Bond{}) || got[1].Hidden != want.Hidden || !got[1].MatchedAt.Equal(want.MatchedAt) {
			s.t.Errorf("%d and %d: got %v %v, want %v", user, other, got, err, want)
		}
	}
	is(anna, bert, views.Bond{})
	s.tell(views.Liked, bert, anna, minute(4))
	is(anna, bert, views.Bond{})
	s.tell(views.Hidden, bert, bert, minute(2))
	is(anna, bert, views.Bond{Hidden: true})
	is(bert, anna, views.Bond{})
	s.tell(views.Liked, anna, bert, minute(3))
	is(anna, bert, views.Bond{Hidden: true, MatchedAt: minute(4)})
	is(bert, anna, views.Bond{MatchedAt: minute(4)})
	s.tell(views.Restored, bert, bert, minute(5))
	is(anna, bert, views.Bond{MatchedAt: minute(4)})
	s.tell(views.Withdrawn, anna, bert, minute(6))
	is(anna, bert, views.Bond{})
}

func hideAndRestore(s *scene) {
	toAnna, toBert := mutual(s)
	n := len(s.history[bert])
	s.history.add(bert, views.Hidden, s.users[bert], uuid.Nil, minute(5))
	s.history.add(bert, views.Visited, s.users[bert], s.users[cleo], minute(6))
	s.history.add(bert, views.Restored, s.users[bert], uuid.Nil, minute(7))
	s.apply(bert, n, n+3)
	s.expect(anna, toAnna)
	toBert.Visits = append([]views.Visit{s.visit(cleo, 1, minute(6), minute(6))}, toBert.Visits...)
	s.expect(bert, toBert)
	s.expect(cleo, portrait{
		Visitors: []views.Visit{s.visit(bert, 1, minute(6), minute(6))},
		Stats:    views.Stats{VisitsReceived: 1, UniqueVisitors: 1},
	})
}

func oneself(s *scene) {
	s.tell(views.Visited, anna, anna, minute(1))
	s.tell(views.Liked, anna, anna, minute(1))
	s.tell(views.Withdrawn, anna, anna, minute(1))
	s.expect(anna, portrait{})
}

func unreadable(s *scene) {
	s.history.add(bert, views.Visited, s.users[bert], s.users[anna], minute(1))
	s.history.add(bert, views.Visited, s.users[bert], s.users[anna], minute(2))
	s.history.add(bert, views.Visited, s.users[bert], s.users[anna], minute(3))
	s.history.add(bert, views.Visited, s.users[bert], s.users[anna], minute(4))
	s.history[bert][1].Data = []byte(`{"target":7}`)
	s.history[bert][2].Type = "activity.profile_poked.v1"
	batch := subscription.Batch{Log: events.ActivityLog, Partition: bert, First: 1, Last: 4, Events: s.history[bert]}
	err := views.Handler(s.store)(s.t.Context(), batch)
	if poison, ok := errors.AsType[*subscription.PoisonError](err); !ok || poison.Sequence != 2 {
		s.t.Fatalf("%v, want the poison of event 2", err)
	}
	s.expect(anna, portrait{})
	batch.Events = slices.Delete(batch.Events, 1, 2)
	if err := views.Handler(s.store)(s.t.Context(), batch); err != nil {
		s.t.Fatal(err)
	}
	s.expect(anna, portrait{
		Visitors: []views.Visit{s.visit(bert, 2, minute(1), minute(4))},
		Stats:    views.Stats{VisitsReceived: 2, UniqueVisitors: 1},
	})
}

func nobody(s *scene) { s.expect(dora, portrait{}) }

// busy tells of many events of bert without applying them.
func busy(s *scene) int {
	for i := range 12 {
		s.history.add(bert, views.Visited, s.users[bert], s.users[anna+2*(i%2)], minute(i))
		s.history.add(bert, []views.Kind{views.Liked, views.Withdrawn, views.Liked}[i%3], s.users[bert], s.users[anna], minute(i))
		s.history.add(bert, []views.Kind{views.Hidden, views.Restored}[i%2], s.users[bert], uuid.Nil, minute(i))
	}
	return len(s.history[bert])
}

// afterBusy checks that each event of busy has counted once.
func afterBusy(s *scene) {
	s.t.Helper()
	s.expect(anna, portrait{
		Visitors:      []views.Visit{s.visit(bert, 6, minute(0), minute(10))},
		LikesReceived: []views.Like{s.like(bert, minute(11))},
		Stats:         views.Stats{VisitsReceived: 6, UniqueVisitors: 1, LikesReceived: 1},
	})
	s.expect(cleo, portrait{
		Visitors: []views.Visit{s.visit(bert, 6, minute(1), minute(11))},
		Stats:    views.Stats{VisitsReceived: 6, UniqueVisitors: 1},
	})
}

func again(s *scene) {
	n := busy(s)
	s.apply(bert, 0, n)
	s.apply(bert, 0, n)
	s.apply(bert, n/2, n)
	afterBusy(s)
}

func cutAnew(s *scene) {
	n := busy(s)
	s.apply(bert, 0, 20)
	s.apply(bert, 0, 7)
	s.apply(bert, 7, 25)
	s.apply(bert, 19, n)
	afterBusy(s)
}

func atOnce(s *scene) {
	n := busy(s)
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs {
		wg.Go(func() { errs[i] = s.history.apply(s.t.Context(), s.store, bert, 0, n) })
	}
	wg.Wait()
	if slices.Contains(errs, nil) {
		afterBusy(s)
		return
	}
	s.t.Errorf("all of %d failed: %v", len(errs), errors.Join(errs...))
}

package storetest

import (
	"errors"
	"sync"

	"github.com/google/go-cmp/cmp"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/projections/views"
)

// mixed tells of much that anna and bert did, in one partition, bert's, by turns,
// and of cleo, who likes them back.
func mixed(s *scene) int {
	s.tell(views.Liked, cleo, anna, minute(1))
	s.tell(views.Liked, cleo, bert, minute(1))
	for i := range 8 {
		for _, actor := range []int{anna, bert} {
			s.history.add(bert, views.Visited, s.users[actor], s.users[cleo], minute(i))
			s.history.add(bert, []views.Kind{views.Liked, views.Withdrawn, views.Liked}[i%3], s.users[actor], s.users[cleo], minute(i))
			s.history.add(bert, []views.Kind{views.Hidden, views.Restored}[i%2], s.users[actor], s.users[actor], minute(i))
		}
	}
	return len(s.history[bert])
}

// ofBert is what is parked, from some sequence on.
func (s *scene) ofBert(from uint64) func(events.Recorded) bool {
	return func(e events.Recorded) bool { return e.Stream == s.users[bert] && e.Sequence >= from }
}

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// asTold compares the store with what the rules say.
func (s *scene) asTold() {
	s.t.Helper()
	if diff := cmp.Diff(paint(s.history, s.users), s.look(), emptyIsNil); diff != "" {
		s.t.Errorf("-rules +store\n%s", diff)
	}
}

// skippedThenLate has bert's events parked while anna's go on, handed over late
// between other batches, and again, by one who had not heard of it.
func skippedThenLate(s *scene) {
	n := mixed(s)
	ctx := s.t.Context()
	parked := s.ofBert(11)
	s.must(s.history.without(ctx, s.store, bert, 0, n/2, parked))
	s.must(s.history.without(ctx, s.store, bert, n/4, n/2, parked))
	var behind []int
	for i, e := range s.history[bert] {
		if parked(e) {
			behind = append(behind, i)
		}
	}
	half := len(behind) / 2
	for i, at := range behind[:half] {
		s.must(s.history.late(ctx, s.store, bert, at))
		s.must(s.history.late(ctx, s.store, bert, at))
		s.must(s.history.late(ctx, s.store, bert, behind[i/2]))
	}
	s.must(s.history.without(ctx, s.store, bert, n/2, n, parked))
	for _, at := range behind {
		s.must(s.history.late(ctx, s.store, bert, at))
	}
	s.asTold()
	s.apply(bert, 0, n)
	s.asTold()
}

// earlyThenInTurn has some events handed over alone before their batch, as one
// does who looks for what is poisonous, and then the batch with and without them.
func earlyThenInTurn(s *scene) {
	n := mixed(s)
	ctx := s.t.Context()
	s.apply(bert, 0, 6)
	for at := 6; at < 18; at++ {
		s.must(s.history.late(ctx, s.store, bert, at))
	}
	s.must(s.history.late(ctx, s.store, bert, 12))
	s.must(s.history.without(ctx, s.store, bert, 6, n-12, func(e events.Recorded) bool { return e.Sequence <= 12 }))
	s.apply(bert, 3, n)
	s.asTold()
}

// lateAtOnce has three do the same work at once: two late, in the order of each
// key, and one in turn.
func lateAtOnce(s *scene) {
	n := mixed(s)
	ctx := s.t.Context()
	var wg sync.WaitGroup
	errs := make([]error, 3)
	for i := range errs[:2] {
		wg.Go(func() {
			for at := range n {
				if s.history[bert][at].Stream == s.users[bert] {
					errs[i] = errors.Join(errs[i], s.history.late(ctx, s.store, bert, at))
				}
			}
		})
	}
	wg.Go(func() {
		for at := 0; at < n; at += 4 {
			errs[2] = errors.Join(errs[2], s.history.apply(ctx, s.store, bert, at, min(n, at+4)))
		}
	})
	wg.Wait()
	s.must(errors.Join(errs...))
	s.asTold()
}

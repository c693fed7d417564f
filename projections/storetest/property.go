package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/projections/views"
)

// Bounds of what Property draws: small, so that events meet.
const (
	maxUsers      = 6
	maxPartitions = 4
	maxEvents     = 80
	maxSteps      = 12
	maxBatch      = 15
	maxExchanges  = 12
	maxMinutes    = 20
)

// Property draws histories and delivers each as badly as a subscription may:
// batches repeated and cut anew, calls that die in the middle, and in every
// partition two workers at once, each of whom starts wherever all before is known
// to be applied, and stands still at any exchange while others go on. The events of
// some actor are parked, and a third worker hands them over one by one, early or
// late. In the end the store must say what a memory store says that was told each
// event once, and what the rules say word by word.
func Property(t *testing.T, s Subject) {
	t.Helper()
	rapid.Check(t, func(t *rapid.T) {
		scope := drawScope(t)
		users := people(scope.users)
		h := scope.drawHistory(t, users)
		plans := make([]plan, len(h))
		for p := range h {
			plans[p] = scope.drawPlan(t, s.Before != nil)
			plans[p].park(t, h[p])
		}
		schedule := newSchedule(rapid.Uint64().Draw(t, "schedule"))
		limit := rapid.IntRange(1, 4).Draw(t, "limit")

		store := s.Open()
		if err := deliver(t.Context(), store, s, h, plans, schedule); err != nil {
			t.Fatal(err)
		}
		got, err := look(t.Context(), store, users, limit)
		if err != nil {
			t.Fatal(err)
		}
		oracle, err := tellOnce(t.Context(), h, users)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(paint(h, users), oracle, emptyIsNil); diff != "" {
			t.Fatalf("the memory store that was told each event once: -rules +store\n%s", diff)
		}
		if diff := cmp.Diff(oracle, got, emptyIsNil); diff != "" {
			t.Fatalf("the store under test: -oracle +store\n%s", diff)
		}
	})
}

func tellOnce(ctx context.Context, h history, users []uuid.UUID) (picture, error) {
	oracle := memstore.New()
	for p := range h {
		if len(h[p]) == 0 {
			continue
		}
		if err := h.apply(ctx, oracle, p, 0, len(h[p])); err != nil {
			return nil, err
		}
	}
	return look(ctx, oracle, users, whole)
}

// scope is what a history and its delivery are drawn from.
type scope struct {
	users, partitions int
	events, batch     int // at most so many of a history, and of a batch
	kinds             []views.Kind
}

// drawScope is either a bit of everything or, as often, a few likes of two people
// in small batches: that is where partitions meet, and where the last one to write
// is likely to be the last one at all.
func drawScope(t *rapid.T) scope {
	if rapid.Bool().Draw(t, "two who like each other") {
		return scope{
			users: 2, partitions: 2, events: 12, batch: 3,
			kinds: []views.Kind{views.Liked, views.Liked, views.Withdrawn, views.Hidden, views.Restored},
		}
	}
	return scope{
		users:      rapid.IntRange(2, maxUsers).Draw(t, "users"),
		partitions: rapid.IntRange(1, maxPartitions).Draw(t, "partitions"),
		events:     maxEvents, batch: maxBatch,
		kinds: []views.Kind{
			views.Visited, views.Visited, views.Visited,
			views.Liked, views.Liked, views.Liked, views.Withdrawn,
			views.Hidden, views.Restored,
		},
	}
}

func (s scope) drawHistory(t *rapid.T, users []uuid.UUID) history {
	h := make(history, s.partitions)
	for range rapid.IntRange(1, s.events).Draw(t, "events") {
		actor := rapid.IntRange(0, s.users-1).Draw(t, "actor")
		other := rapid.IntRange(1, s.users-1).Draw(t, "other")
		h.add(actor%s.partitions, rapid.SampledFrom(s.kinds).Draw(t, "kind"), users[actor], users[(actor+other)%s.users],
			minute(rapid.IntRange(0, maxMinutes).Draw(t, "minute")))
	}
	return h
}

// plan is what the workers of a partition do.
type plan struct {
	inTurn [2][]step
	// late says at which exchange each call of the one dies who hands over what is
	// parked; 0 if it lives.
	late []int
	// parked are the places in the history of what the others leave out.
	parked []int
}

// park has the events of one actor be parked, from one on, or none.
func (p *plan) park(t *rapid.T, history []events.Recorded) {
	if len(history) == 0 || !rapid.Bool().Draw(t, "parks") {
		return
	}
	from := rapid.IntRange(0, len(history)-1).Draw(t, "parked from")
	for i := from; i < len(history); i++ {
		if history[i].Stream == history[from].Stream {
			p.parked = append(p.parked, i)
		}
	}
}

// step is one batch of a worker.
type step struct {
	back     int // starts so many events before what is known to be applied
	length   int
	breaksAt int // dies at its n-th exchange with the server; 0 if it lives
}

func (s scope) drawPlan(t *rapid.T, breaks bool) (p plan) {
	dies := func() int {
		if breaks && rapid.IntRange(0, 3).Draw(t, "breaks") == 0 {
			return rapid.IntRange(1, maxExchanges).Draw(t, "breaks at")
		}
		return 0
	}
	for w := range p.inTurn {
		for range rapid.IntRange(0, maxSteps).Draw(t, "steps") {
			st := step{
				back:   rapid.IntRange(0, s.batch).Draw(t, "back"),
				length: rapid.IntRange(1, s.batch).Draw(t, "length"),
			}
			st.breaksAt = dies()
			p.inTurn[w] = append(p.inTurn[w], st)
		}
	}
	for range rapid.IntRange(0, maxSteps).Draw(t, "late") {
		p.late = append(p.late, dies())
	}
	return p
}

// deliver has all workers follow their plans at once, and then brings in what they
// have left.
func deliver(ctx context.Context, store views.Store, s Subject, h history, plans []plan, turns *schedule) error {
	parts := make([]*partition, len(h))
	var all sync.WaitGroup
	for i := range h {
		p := &partition{history: h, number: i, store: store, subject: s, schedule: turns, behind: plans[i].parked}
		parts[i] = p
		if len(p.behind) > 0 {
			w := turns.worker()
			turns.begin()
			all.Go(func() {
				defer turns.end()
				for _, breaksAt := range plans[i].late {
					p.late(ctx, w, breaksAt)
				}
			})
		}
		for _, steps := range plans[i].inTurn {
			w := turns.worker()
			turns.begin() // before any starts, so that all do
			all.Go(func() {
				defer turns.end()
				for _, st := range steps {
					p.step(ctx, w, st)
				}
			})
		}
	}
	all.Wait()
	errs := make([]error, len(h))
	for i, p := range parts {
		errs[i] = p.finish(ctx)
	}
	return errors.Join(errs...)
}

// partition is delivered by two workers, and what is parked by a third.
type partition struct {
	history  history
	number   int
	store    views.Store
	subject  Subject
	schedule *schedule
	behind   []int // places of what is parked
	handed   int   // so many of them are handed over; the third worker's

	mu      sync.Mutex
	applied int // so many events are known to be applied
}

// step applies a batch. If the call fails, some of it may be in the store, and the
// worker goes on as one that has come after it.
func (p *partition) step(ctx context.Context, w *worker, s step) {
	p.mu.Lock()
	from := max(0, p.applied-s.back)
	p.mu.Unlock()
	to := min(from+s.length, len(p.history[p.number]))
	if from == to {
		return
	}
	err := exchange(ctx, p.subject, p.schedule, w, s.breaksAt, func(ctx context.Context) error {
		return p.apply(ctx, from, to)
	})
	if err != nil {
		return
	}
	p.mu.Lock()
	p.applied = max(p.applied, to)
	p.mu.Unlock()
}

// apply applies what is not parked.
func (p *partition) apply(ctx context.Context, from, to int) error {
	return p.history.without(ctx, p.store, p.number, from, to, func(e events.Recorded) bool {
		return slices.Contains(p.behind, int(e.Sequence-1)) //nolint:gosec // a few
	})
}

// late hands over what is parked next, unless something that its actor did before is
// not known to be applied. If the call fails, it is still next.
func (p *partition) late(ctx context.Context, w *worker, breaksAt int) {
	p.mu.Lock()
	begun := p.applied >= p.behind[0]
	p.mu.Unlock()
	if !begun || p.handed == len(p.behind) {
		return
	}
	err := exchange(ctx, p.subject, p.schedule, w, breaksAt, func(ctx context.Context) error {
		return p.history.late(ctx, p.store, p.number, p.behind[p.handed])
	})
	if err == nil {
		p.handed++
	}
}

// attempts is how often a batch may fail that nothing breaks: the server may end
// one of two calls that wait for each other, of which one may be dying.
const attempts = 10

func (p *partition) finish(ctx context.Context) error {
	n := len(p.history[p.number])
	if p.applied < n {
		if err := repeat(func() error { return p.apply(ctx, p.applied, n) }); err != nil {
			return fmt.Errorf("apply what is left of partition %d: %w", p.number, err)
		}
	}
	for _, at := range p.behind[max(0, p.handed-1):] { // the last one once more
		if err := repeat(func() error { return p.history.late(ctx, p.store, p.number, at) }); err != nil {
			return fmt.Errorf("hand over what is parked of partition %d: %w", p.number, err)
		}
	}
	return nil
}

func repeat(do func() error) (err error) {
	for range attempts {
		if err = do(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%d times: %w", attempts, err)
}

package storetest

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/meet5/backend/projections/views"
)

// orders is how many random orders of its exchanges each race is run in. A wrong
// step that one order in twenty shows is found in nearly 9 of 10 runs.
const orders = 40

// act is what a user does.
type act struct {
	kind          views.Kind
	actor, target int
}

// race is a few batches that are applied at once. An actor has a partition of
// their own.
type race struct {
	name   string
	before []act
	// atOnce are batches of one actor each.
	atOnce [][]act
	// dies says which of them is also applied by a worker who dies on the way,
	// once for each time that it is named.
	dies []int
	// late has them go first and the last thing that they send come last, when
	// all others are done.
	late bool
	// longer is what another worker has beyond the first batch, whose acts and
	// these are one batch to that worker.
	longer []act
	// after is told when all of that is over.
	after []act
}

var (
	annaLikes     = act{views.Liked, anna, bert}
	annaWithdraws = act{views.Withdrawn, anna, bert}
	annaVisits    = act{views.Visited, anna, bert}
	annaHides     = act{views.Hidden, anna, anna}
	annaShows     = act{views.Restored, anna, anna}
	annaGoesOn    = act{views.Visited, anna, cleo}
	bertLikes     = act{views.Liked, bert, anna}
	bertWithdraws = act{views.Withdrawn, bert, anna}
	bertHides     = act{views.Hidden, bert, bert}
)

var races = []race{
	{name: "two like each other", atOnce: [][]act{{annaLikes}, {bertLikes}}},
	{
		name:   "one likes back while the other is hidden",
		before: []act{annaLikes}, atOnce: [][]act{{annaHides}, {bertLikes}}, dies: []int{1},
	},
	{
		name:   "one likes back while the other withdraws",
		before: []act{annaLikes}, atOnce: [][]act{{annaWithdraws}, {bertLikes}}, dies: []int{1},
	},
	{
		name:   "one likes anew while the other is hidden",
		before: []act{annaLikes, bertLikes}, atOnce: [][]act{{annaHides}, {bertWithdraws, bertLikes}}, dies: []int{1},
	},
	{
		name:   "one likes back and dies while the other withdraws",
		before: []act{annaLikes}, atOnce: [][]act{{annaWithdraws}, {bertLikes}}, dies: []int{1}, late: true,
	},
	{
		name:   "one likes anew and dies while the other is hidden",
		before: []act{annaLikes, bertLikes}, atOnce: [][]act{{annaHides}, {bertWithdraws, bertLikes}}, dies: []int{1, 1}, late: true,
	},
	{
		name:   "one likes anew and dies while the other does too",
		before: []act{annaLikes, bertLikes}, atOnce: [][]act{{annaWithdraws, annaLikes}, {bertWithdraws, bertLikes}}, dies: []int{1, 1}, late: true,
	},
	{
		name:   "both like anew",
		before: []act{annaLikes, bertLikes}, atOnce: [][]act{{annaWithdraws, annaLikes}, {bertWithdraws, bertLikes}}, dies: []int{0, 1},
	},
	{
		name:   "both are hidden",
		before: []act{annaLikes, bertLikes}, atOnce: [][]act{{annaHides}, {bertHides}}, dies: []int{0, 1},
	},
	{
		name:   "one is hidden and goes on",
		before: []act{annaVisits, bertLikes}, atOnce: [][]act{{annaHides, annaVisits, annaLikes}}, dies: []int{0, 0},
	},
	{
		name:   "two count the same visits, one of them more",
		atOnce: [][]act{{annaVisits, annaVisits}}, dies: []int{0}, longer: []act{annaVisits, annaVisits},
	},
	{
		name:   "two count on, one of them more",
		before: []act{annaVisits}, atOnce: [][]act{{annaVisits, annaVisits}}, dies: []int{0}, longer: []act{annaVisits, annaVisits},
	},
	{
		name:   "one hides and another, who is ahead, restores",
		before: []act{annaVisits, annaLikes, bertLikes}, atOnce: [][]act{{annaHides}}, dies: []int{0}, longer: []act{annaShows},
		after: []act{annaGoesOn},
	},
	{
		name:   "one brings a pair in and another, who is ahead, hides its actor",
		atOnce: [][]act{{annaVisits, annaLikes}}, dies: []int{0}, longer: []act{annaHides},
	},
	{
		name:   "one likes and another, who is ahead, withdraws",
		before: []act{bertLikes}, atOnce: [][]act{{annaLikes}}, dies: []int{0}, longer: []act{annaWithdraws},
	},
}

// Races checks what Property would have to be lucky to meet: a few batches that
// get into each other's way, each in many orders of their exchanges with the
// server, with workers who die on the way and what they did left as it is.
func Races(t *testing.T, s Subject) {
	t.Helper()
	for _, r := range races {
		t.Run(r.name, func(t *testing.T) {
			for seed := range uint64(orders) {
				r.run(t, s, seed)
				if t.Failed() {
					t.Fatalf("with seed %d", seed)
				}
			}
		})
	}
}

func (r race) run(t *testing.T, s Subject, seed uint64) {
	sc := newScene(t, s)
	sc.users = sc.users[:dora] // nobody does anything to her
	now := 0
	add := func(acts []act) (from, to int) {
		actor := acts[0].actor
		from = len(sc.history[actor])
		for _, a := range acts {
			now++
			sc.history.add(a.actor, a.kind, sc.users[a.actor], sc.users[a.target], minute(now))
		}
		return from, len(sc.history[actor])
	}
	for _, a := range r.before {
		from, to := add([]act{a})
		sc.apply(a.actor, from, to)
	}
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible on purpose
	g := &gate{subject: s, scene: sc, schedule: newSchedule(seed), late: r.late}
	for i, batch := range r.atOnce {
		from, to := add(batch)
		g.enter(call{batch[0].actor, from, to, 0})
		for range count(r.dies, i) {
			g.enter(call{batch[0].actor, from, to, 1 + random.IntN(maxExchanges)})
		}
		if i == 0 && len(r.longer) > 0 {
			_, end := add(r.longer)
			g.enter(call{batch[0].actor, from, end, 0})
		}
	}
	if err := g.run(t.Context()); err != nil {
		t.Error(err)
		return
	}
	for _, a := range r.after {
		from, to := add([]act{a})
		sc.apply(a.actor, from, to)
	}
	if diff := cmp.Diff(paint(sc.history, sc.users), sc.look(), emptyIsNil); diff != "" {
		t.Errorf("-rules +store\n%s", diff)
	}
}

func count(of []int, n int) int {
	return len(slices.DeleteFunc(slices.Clone(of), func(x int) bool { return x != n }))
}

// call is a batch of one partition that a worker applies.
type call struct {
	partition, from, to int
	diesAt              int // at its n-th exchange; 0 if it lives
}

// gate has calls run at once, as a schedule has it.
type gate struct {
	subject  Subject
	scene    *scene
	schedule *schedule
	late     bool // the last exchange of one that dies comes after all others'
	calls    []call
}

func (g *gate) enter(c call) { g.calls = append(g.calls, c) }

// run returns when all have come to their end. Of those that live none may fail,
// unless the server ended it for getting in another's way; then it is repeated.
func (g *gate) run(ctx context.Context) error {
	var wg sync.WaitGroup
	for range g.calls {
		g.schedule.begin()
	}
	errs := make([]error, len(g.calls))
	for i, c := range g.calls {
		w := g.schedule.worker()
		if g.late && c.diesAt > 1 {
			w.rank, w.holdAt = math.MaxUint64, c.diesAt-1
		}
		wg.Go(func() {
			defer g.schedule.end()
			errs[i] = exchange(ctx, g.subject, g.schedule, w, c.diesAt, func(ctx context.Context) error {
				return g.scene.history.apply(ctx, g.scene.store, c.partition, c.from, c.to)
			})
		})
	}
	wg.Wait()
	for i, c := range g.calls {
		if errs[i] != nil && c.diesAt == 0 {
			errs[i] = g.scene.history.apply(ctx, g.scene.store, c.partition, c.from, c.to)
		} else {
			errs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// exchange makes a call that takes turns with others, and dies at its n-th
// exchange with the server if n is not 0.
func exchange(ctx context.Context, s Subject, turns *schedule, w *worker, n int, call func(context.Context) error) error {
	if s.Before == nil {
		return call(ctx)
	}
	ctx, die := context.WithCancel(ctx)
	defer die()
	turns.restart(w)
	return call(s.Before(ctx, func() {
		if turns.wait(w) == n {
			die()
		}
	}))
}

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/meet5/backend/cmd/history"
)

// sampleEvery is how often the programs' memory is looked at.
const sampleEvery = time.Second

// ordeal is one fault in one house.
type ordeal struct {
	*house
	random *rand.Rand
	// peak and growth are the most memory that a program had, and the most that
	// one has grown by since the load began.
	sampling     sync.Mutex
	peak, growth int64
	peakOf       string
	before       map[*process]int64
}

// run does one fault in the middle of a load, and checks everything afterwards.
// The error is of what could not be done; what was broken is in the result.
func (h *house) run(ctx context.Context, f fault, seed uint64) (r Result, err error) {
	r = Result{Fault: f.name, Seed: seed}
	began := time.Now()
	defer func() { r.Took = time.Since(began) }()
	say := func(what string) { h.options.Progress(fmt.Sprintf("%s, seed %d: %s", f.name, seed, what)) }

	*h.doors = doors{urls: h.doors.urls, client: h.doors.client, tally: &tally{}}
	o := &ordeal{house: h, random: rand.New(rand.NewPCG(seed, fingerprint(f.name))), before: make(map[*process]int64)} //nolint:gosec // repeatable on purpose
	say("load")
	pace := h.options.Pace
	if f.flatOut {
		pace = 0
	}
	h.runs++
	l := h.startLoad(ctx, seed, h.runs, pace)
	defer func() { l.stop(); l.devices.Wait() }()
	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	bounded, cancel := context.WithCancel(ctx)
	defer cancel()
	var watch sync.WaitGroup
	var watchErr error
	watch.Go(func() { r.Unseen, watchErr = h.watch(watching, bounded) })
	watch.Go(func() { o.sample(watching) })
	defer watch.Wait()
	defer cancel()
	defer stopWatching()

	first := time.Duration((0.3 + 0.3*o.random.Float64()) * float64(h.options.Load))
	pause(ctx, first)
	say(f.what)
	if err := f.do(ctx, o); err != nil {
		return r, err
	}
	healed := time.Now()
	say("healed; waiting for freshness")
	patience := h.patience()
	fresh, stop := context.WithTimeout(ctx, patience)
	defer stop()
	if r.Last, err = h.fresh(fresh); err != nil {
		if ctx.Err() != nil {
			return r, ctx.Err()
		}
		h.found(stuck("not fresh again", patience, err))
	}
	r.Fresh = time.Since(healed)
	pause(ctx, h.options.Load-first-r.Fresh)

	say("settling")
	stopWatching()
	patience = h.patience()
	limit := time.AfterFunc(patience, cancel)
	defer limit.Stop()
	settled := l.settle()
	watch.Wait()
	if ctx.Err() != nil {
		return r, ctx.Err()
	}
	for _, err := range []error{settled, watchErr} {
		if err != nil {
			h.found(stuck("not settled", patience, err))
		}
	}
	say("checking")
	if err := h.check(ctx); err != nil {
		return r, err
	}
	t := h.doors.tally
	r.Requests, r.Acknowledged, r.Refused, r.Unknown = t.requests.Load(), t.acknowledged.Load(), t.refused.Load(), t.unknown.Load()
	r.PeakMemory, r.PeakOf, r.Growth = o.peak, o.peakOf, o.growth
	if r.Violations = h.violations; len(r.Violations) > 0 {
		r.Tails = h.tails()
	}
	return r, nil
}

func stuck(what string, within time.Duration, err error) history.Violation {
	return history.Violation{
		Rule: Stuck, Log: "house", Partition: history.NoPartition,
		Message: fmt.Sprintf("%s within %v", what, within), Evidence: []string{err.Error()},
	}
}

// sample looks at the programs' memory until ctx ends.
func (o *ordeal) sample(ctx context.Context) {
	for ctx.Err() == nil {
		o.look()
		pause(ctx, sampleEvery)
	}
}

func (o *ordeal) look() {
	for _, p := range o.all() {
		now := p.memory()
		if now == 0 {
			continue
		}
		o.sampling.Lock()
		if now > o.peak {
			o.peak, o.peakOf = now, p.name
		}
		if before, known := o.before[p]; known {
			o.growth = max(o.growth, now-before)
		} else {
			o.before[p] = now
		}
		o.sampling.Unlock()
	}
}

package fraud

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// stepInPlace is how many events a lane may have to wait for while its new engines
	// take the last step.
	stepInPlace = 2000
	// restEvery is how often it is looked whether a lane rests.
	restEvery = 10 * time.Millisecond
)

// program is a plan that is carried out, with what its rules have come to.
type program struct {
	plan    *plan
	tallies map[string]*tally // by rule
	// added are the tallies that the program before did not have: their history is
	// to be counted by the lanes.
	added map[string]bool
}

// newProgram makes a program for a plan. A version that ran before keeps its tally.
func newProgram(p *plan, before *program) *program {
	g := &program{plan: p, tallies: make(map[string]*tally, len(p.rules)), added: make(map[string]bool)}
	for _, r := range p.rules {
		if before != nil {
			if t := before.tallies[r.ID]; t != nil && t.version == r.version {
				g.tallies[r.ID] = t
				continue
			}
		}
		g.tallies[r.ID] = newTally(r)
		g.added[r.ID] = !r.Ordered() // what needs all partitions counts its history by itself
	}
	return g
}

// reloads says up to which revision of the rules the engines have come.
type reloads struct {
	mu      sync.Mutex
	started bool
	at      uint64
	moved   chan struct{} // closed, and made anew, when it moves
}

func (r *reloads) reached(revision uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.started, r.at = true, max(r.at, revision)
	if r.moved != nil {
		close(r.moved)
		r.moved = nil
	}
}

// wait waits for a revision.
func (r *reloads) wait(ctx context.Context, revision uint64) error {
	for {
		r.mu.Lock()
		there := r.started && r.at >= revision
		if r.moved == nil {
			r.moved = make(chan struct{})
		}
		moved := r.moved
		r.mu.Unlock()
		if there {
			return nil
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return fmt.Errorf("wait for the rules to be loaded: %w", ctx.Err())
		}
	}
}

// reload keeps what the engines run in step with the rules until ctx ends.
func (s *Service) reload(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.changed:
		}
		err := s.insist(ctx, "a change of the rules cannot be carried out yet, trying again", func() error {
			if err := s.settle(ctx); err != nil {
				return err
			}
			return s.raiser.change(ctx, s.planRules())
		})
		if err != nil {
			return nil // ctx has ended
		}
	}
}

// change has the engines run another plan: new ones are made, fed with the history of
// their partition, and take the old ones' place at one event. Meanwhile the old ones
// go on, so that it takes up to twice the memory. One partition comes after the other.
// It must be called again until it succeeds.
func (r *raiser) change(ctx context.Context, p *plan) error {
	now := r.program.Load()
	if now.plan.revision >= p.revision {
		return nil
	}
	next := newProgram(p, now)
	if now.plan.part(false).print() == p.part(false).print() {
		for _, l := range r.lanes {
			l.mu.Lock()
			l.program, l.informed = next, p.revision
			l.mu.Unlock()
		}
		r.run(next)
		r.reloads.reached(p.revision)
		return nil
	}
	if _, err := newCrew(r.users, p, 0, func(ruleVersion, register.Span) bool { return true }); err != nil {
		return err // before anything is changed
	}
	begun := r.clock()
	r.run(next)
	for _, l := range r.lanes {
		for {
			err := r.swap(ctx, l, next)
			if err == nil {
				break
			}
			// What half of the lanes run already, the rest must come to.
			r.logger.WarnContext(ctx, "new rules cannot be warmed yet, trying again", "partition", l.at.Partition, "error", err)
			if !sleep(ctx, time.Second) {
				return ctx.Err()
			}
		}
	}
	r.snapshots.changed(now, next)
	r.logger.InfoContext(ctx, "the rules have been loaded anew", "running", len(p.rules), "took", r.clock().Sub(begun))
	r.reloads.reached(p.revision)
	return nil
}

// run has everybody know of the program that runs from now on.
func (r *raiser) run(p *program) {
	r.program.Store(p)
	select {
	case r.another <- struct{}{}:
	default: // it is known that there is another
	}
}

// sleep is false if ctx ends first.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// warming is a lane's new crew on its way through the history.
type warming struct {
	*raiser
	lane    *lane
	program *program
	crew    crew
	worked  worked   // for which flags have been raised without it
	at      uint64   // up to where it has come
	parked  []uint64 // what it leaves out
	counts  map[string]*count
	owed    []engine.Hit
	hits    []engine.Hit // reused
}

// swap gives a lane the crew of a program.
func (r *raiser) swap(ctx context.Context, l *lane, next *program) error {
	w, err := r.warm(ctx, l, next)
	if err != nil {
		return err
	}
	for {
		l.mu.Lock()
		target := l.handled
		l.mu.Unlock()
		if err := w.readTo(ctx, target); err != nil {
			return err
		}
		done, err := w.take(ctx)
		if done || err != nil {
			return err
		}
		if !sleep(ctx, restEvery) {
			return ctx.Err()
		}
	}
}

// warm begins a lane's new crew.
func (r *raiser) warm(ctx context.Context, l *lane, next *program) (*warming, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := &warming{raiser: r, lane: l, program: next, worked: l.worked.clone(), counts: make(map[string]*count)}
	p := l.at.Partition
	w.worked.add(l.program.plan, p, 1<<64-1) // until the new crew takes its place
	var err error
	w.crew, err = newCrew(r.users, next.plan, p, func(name ruleVersion, s register.Span) bool {
		from := max(l.raised, s.Begin(p))
		if w.worked.covers(name, stretch{from, min(s.End(p), l.handled)}) {
			from = max(from, l.handled)
		}
		return s.End(p) > from
	})
	if err != nil {
		return nil, err
	}
	if w.parked, err = r.parkedAt(ctx, l); err != nil {
		return nil, err
	}
	for id, added := range next.added {
		if added {
			w.counts[id] = new(count)
		}
	}
	return w, nil
}

// parkedAt is the sequences of a lane's parked events. A crew counts them when they
// are retried.
func (r *raiser) parkedAt(ctx context.Context, l *lane) ([]uint64, error) {
	list, err := r.ledger.Parked(ctx, l.at)
	if err != nil {
		return nil, err
	}
	sequences := make([]uint64, len(list))
	for i, p := range list {
		sequences[i] = p.Sequence
	}
	return sequences, nil
}

// readTo counts the log's events up to one of them.
func (w *warming) readTo(ctx context.Context, target uint64) error {
	if w.at >= target {
		return nil
	}
	for e, err := range log.Events(ctx, w.activity, w.lane.at.Partition, w.at) {
		if err != nil {
			return err
		}
		if e.Sequence > target {
			break
		}
		w.at = e.Sequence
		if _, parked := slices.BinarySearch(w.parked, e.Sequence); parked {
			continue
		}
		for id, c := range w.counts {
			if k := rule.KindOf(e.Type); k != "" && slices.Contains(w.program.tallies[id].rule.Events, k) {
				c.evaluations++
			}
		}
		for n, run := range w.crew {
			w.hits = run.engine.Process(&e, w.hits[:0])
			for _, h := range w.hits {
				if c := w.counts[h.Rule.ID]; c != nil && n == 0 {
					c.hits++
					c.latest.add(remembered(h))
				}
				if run.raises(h) && e.Sequence > w.lane.raised && !w.worked.holds(ruleVersion{h.Rule.ID, h.Rule.Version}, e.Sequence) {
					w.owed = append(w.owed, h)
				}
			}
		}
	}
	if w.at < target {
		return fmt.Errorf("read %s/%d: it ends at %d, before %d", w.activity.Name(), w.lane.at.Partition, w.at, target)
	}
	return nil
}

// take has the lane go on with the new crew, if it rests and is not far ahead. What
// follows from what has been handled already, and only the new crew has found, is owed.
func (w *warming) take(ctx context.Context) (done bool, err error) {
	l := w.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crew.counted() > l.handled || l.handled-w.at > stepInPlace {
		return false, nil
	}
	if err := w.readTo(ctx, l.handled); err != nil {
		return false, err
	}
	parked, err := w.parkedAt(ctx, l)
	if err != nil {
		return false, err
	}
	if !slices.Equal(parked, w.parked) {
		return false, fmt.Errorf("events of %v were parked or retried meanwhile", l.at)
	}
	for id, c := range w.counts {
		w.program.tallies[id].add(c)
		*l.share(id) = share{c.evaluations, c.hits}
	}
	l.worked.add(l.program.plan, l.at.Partition, l.handled)
	l.crew, l.program, l.informed = w.crew, w.program, w.program.plan.revision
	l.owed = append(l.owed, w.owed...)
	slices.SortStableFunc(l.owed, bySequence)
	if err := w.raiseOwed(ctx, l); err != nil {
		w.logger.WarnContext(ctx, "flags of new rules cannot be raised yet, trying again", "error", err)
	}
	return true, nil
}

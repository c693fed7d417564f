package fraud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/evidence"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// raisedGroup names the checkpoint up to which flags have been raised.
	raisedGroup = "fraud-raised"
	// saveEvery is how often that checkpoint is saved at most while nothing is
	// raised. What is worked through again raises nothing twice.
	saveEvery = time.Second
)

// maxRaises bounds how often raising one flag is tried again because other
// instances or moderators were quicker.
const maxRaises = 64

// errUnflaggable says that no flag can be made of a hit, however often it is tried.
var errUnflaggable = errors.New("no flag can be made")

// raiser runs the rules over the activity log and raises flags.
type raiser struct {
	fraud       *log.Log
	activity    log.Reader
	checkpoints subscription.Checkpoints
	ledger      *subscription.Memory // of rulesGroup: what is parked
	clock       func() time.Time
	logger      *slog.Logger
	board       *flag.Board
	rules       *register.Register
	catchUp     func(context.Context) error // brings the board and the rules up to date
	settle      func(context.Context) error // puts on record where changes of rules take effect
	figures     *figures
	quota       *markQuota
	users       *engine.Users // numbered once for all engines
	snapshots   *snapshotter

	lanes   []*lane                 // by partition
	program atomic.Pointer[program] // what runs, or is on its way; nil before the start
	another chan struct{}           // holds a token when there is another program
	reloads reloads
}

// lane is one partition's share.
type lane struct {
	mu   sync.Mutex         // held while a batch is handled, or the lane is saved or changed
	at   subscription.Place // of rulesGroup
	crew crew
	// program is what the crew runs, and informed the revision of the rules that the
	// lane does justice to. worked is where programs before had flags raised.
	program  *program
	informed uint64
	worked   worked
	// raised is up to where flags had been raised when the instance started.
	raised uint64
	// owed are hits that a change of the rules has brought about, behind where the lane
	// stood: their flags come before all others.
	owed []engine.Hit
	// pending are hits whose flags are yet to be raised, in the order of their
	// events: those of the batch that is being handled, which begins at first, and
	// those of events that are parked.
	pending []engine.Hit
	first   uint64
	hits    []engine.Hit // reused
	handled uint64       // up to where batches have been handled
	saved   uint64
	savedAt time.Time

	processed uint64 // events, by any engine

	shares   map[string]*share // of the tallies, by rule
	counting int               // above 0 while, or if in the middle of, events are counted
}

// start makes engines for each partition and reads up to where flags have been
// raised.
func (r *raiser) start(ctx context.Context, p *plan) error {
	program := newProgram(p, nil)
	lanes := make([]*lane, r.activity.Partitions())
	for i := range lanes {
		at := subscription.Place{Group: raisedGroup, Log: r.activity.Name(), Partition: i}
		raised, err := r.checkpoints.Load(ctx, at)
		if err != nil {
			return err
		}
		c, err := newCrew(r.users, p, i, func(_ ruleVersion, s register.Span) bool { return s.End(i) > max(raised.Sequence, s.Begin(i)) })
		if err != nil {
			return err
		}
		at.Group = rulesGroup
		lanes[i] = &lane{
			at: at, crew: c, program: program, informed: p.revision, worked: make(worked),
			raised: raised.Sequence, saved: raised.Sequence, savedAt: r.clock(),
		}
	}
	if err := r.snapshots.restore(ctx, lanes); err != nil {
		return err
	}
	for _, t := range program.tallies {
		t.warmed.Store(int64(len(lanes))) // there is no history before the beginning
	}
	r.lanes = lanes
	r.run(program)
	r.reloads.reached(p.revision)
	return nil
}

// handle works through a batch. When it fails it is called again with the same
// batch, or a part of it: the engine skips what it has counted, and what is pending
// is raised. An event handled by itself stands for the batch that it is of: it is
// not handled well while a flag of any other cannot be raised. Else every event
// without a hit would be proof, during an outage, that those with hits are to blame.
func (r *raiser) handle(ctx context.Context, b subscription.Batch) error {
	l := r.lanes[b.Partition]
	l.mu.Lock()
	defer l.mu.Unlock()
	if !b.Late {
		l.first = b.First
	}
	r.count(l, b.Events)
	if err := r.raiseOwed(ctx, l); err != nil {
		return err
	}
	raised, err := r.raisePending(ctx, l, b)
	if err != nil || b.Late {
		return err
	}
	l.handled = b.Last
	l.crew = slices.DeleteFunc(l.crew, func(run *runner) bool { return run.last <= l.handled })
	if raised || r.clock().Sub(l.savedAt) >= saveEvery {
		return r.save(ctx, l)
	}
	return nil
}

// count runs the rules over events.
func (r *raiser) count(l *lane, list []events.Recorded) {
	l.counting++ // for good, if it panics
	r.evaluate(l, list)
	for n, run := range l.crew {
		for i := range list {
			l.hits = r.process(l, run, &list[i])
			for _, h := range l.hits {
				if n == 0 {
					l.program.tallies[h.Rule.ID].hit(h)
					l.share(h.Rule.ID).hits++
					r.figures.hit(h.Rule)
				}
				if run.raises(h) && h.Position.Sequence > l.raised {
					l.pending = append(l.pending, h)
				}
			}
		}
	}
	if len(l.crew) > 1 {
		slices.SortStableFunc(l.pending, bySequence)
	}
	l.counting--
}

func bySequence(a, b engine.Hit) int { return cmp.Compare(a.Position.Sequence, b.Position.Sequence) }

// process runs a runner's rules over an event, and times some.
func (r *raiser) process(l *lane, run *runner, e *events.Recorded) []engine.Hit {
	if l.processed++; l.processed%sampleEvery != 0 {
		return run.engine.Process(e, l.hits[:0])
	}
	begun := time.Now() // for the figures only: rules know the events' time
	hits := run.engine.Process(e, l.hits[:0])
	r.figures.event.Observe(time.Since(begun).Seconds())
	return hits
}

// evaluate counts how often rules are asked about events.
func (r *raiser) evaluate(l *lane, list []events.Recorded) {
	var asked kindCounts
	counted := l.crew.counted()
	for i := range list {
		if list[i].Sequence > counted { // else it comes again
			asked.add(list[i].Type)
		}
	}
	for id, t := range l.program.tallies {
		if !t.rule.Ordered() {
			n := asked.of(t.rule.Events)
			t.evaluations.Add(n)
			l.share(id).evaluations += n
		}
	}
}

// raiseOwed raises the flags that are owed.
func (r *raiser) raiseOwed(ctx context.Context, l *lane) error {
	for len(l.owed) > 0 {
		h := l.owed[0]
		if err := r.raiseIfLive(ctx, h); err != nil {
			return fmt.Errorf("raise the flag of %s by %s: %w", h.User, h.Rule.ID, err)
		}
		l.owed = l.owed[1:]
	}
	l.owed = nil
	return nil
}

// raisePending raises the flags of a batch, and of the rest of the batch that it
// is a part of. It forgets the hits of parked events that have been dropped.
func (r *raiser) raisePending(ctx context.Context, l *lane, b subscription.Batch) (raised bool, err error) {
	if len(l.pending) == 0 {
		l.pending = nil
		return false, nil
	}
	parked, err := r.ledger.Parked(ctx, l.at)
	if err != nil {
		return false, err
	}
	kept := make([]engine.Hit, 0, len(l.pending))
	for i, h := range l.pending {
		at := h.Position.Sequence
		_, isParked := slices.BinarySearchFunc(parked, at, func(p subscription.Parked, at uint64) int { return cmp.Compare(p.Sequence, at) })
		event, isHere := slices.BinarySearchFunc(b.Events, at, func(e events.Recorded, at uint64) int { return cmp.Compare(e.Sequence, at) })
		switch {
		case !isHere && isParked:
			kept = append(kept, h)
			continue
		case !isHere && at < l.first:
			continue // it was parked, and dropped
		}
		if err := r.raiseIfLive(ctx, h); err != nil {
			l.pending = append(kept, l.pending[i:]...)
			err = fmt.Errorf("raise the flag of %s by %s: %w", h.User, h.Rule.ID, err)
			if errors.Is(err, errUnflaggable) && isHere {
				return raised, subscription.Poison(b.Events[event], err)
			}
			return raised, err
		}
		raised = true
	}
	l.pending = kept
	return raised, nil
}

// isLive says whether the rule's version was live where the hit is, by all that has
// been announced.
func (r *raiser) isLive(ctx context.Context, h engine.Hit) (bool, error) {
	if err := r.catchUp(ctx); err != nil {
		return false, err
	}
	for range maxTries {
		switch r.rules.Raises(h.Rule.ID, h.Rule.Version, h.Position.Partition, h.Position.Sequence) {
		case register.Yes:
			return true, nil
		case register.No:
			return false, nil
		}
		if err := r.settle(ctx); err != nil {
			return false, err
		}
	}
	return false, errors.New("others keep changing the rule")
}

// raiseIfLive raises the hit's flag if its rule was live there.
func (r *raiser) raiseIfLive(ctx context.Context, h engine.Hit) error {
	begun := time.Now() // for the figures only
	live, err := r.isLive(ctx, h)
	if err != nil || !live {
		return err
	}
	if err := r.raise(ctx, h); err != nil {
		return err
	}
	r.figures.raise.WithLabelValues(h.Rule.ID).Observe(time.Since(begun).Seconds())
	return nil
}

// save saves up to where flags have been raised: not past an event that is parked,
// which is to be tried again even after a restart. Of a change of the rules that has
// been announced since the events were handled it would not know that its flags are
// still to be raised, so that it looks for one first, and saves nothing then.
func (r *raiser) save(ctx context.Context, l *lane) error {
	if l.handled <= l.saved || len(l.owed) > 0 || r.catchUp(ctx) != nil {
		return nil
	}
	if _, raising := r.rules.Revision(); raising > l.informed || len(r.rules.Announced()) > 0 {
		return nil
	}
	parked, err := r.ledger.Parked(ctx, l.at)
	if err != nil {
		return err
	}
	last := l.handled
	if len(parked) > 0 {
		last = min(last, parked[0].Sequence-1)
	}
	if last <= l.saved {
		return nil
	}
	at := subscription.Place{Group: raisedGroup, Log: l.at.Log, Partition: l.at.Partition}
	if err := r.checkpoints.Save(ctx, subscription.Checkpoint{Place: at, Sequence: last, At: r.clock()}); err != nil {
		return err
	}
	l.saved, l.savedAt = last, r.clock()
	return nil
}

// keep saves, now and then, how far partitions have come in which nothing more
// happens.
func (r *raiser) keep(ctx context.Context) error {
	tick := time.NewTicker(saveEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for _, l := range r.lanes {
			if !l.mu.TryLock() {
				continue // it is being worked on
			}
			err := r.raiseOwed(ctx, l)
			if err == nil {
				err = r.save(ctx, l)
			}
			l.mu.Unlock()
			if err != nil {
				break // the store is away: what is not saved is worked through again, and raises nothing twice
			}
		}
	}
}

// finish saves how far each partition has come.
func (r *raiser) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	var errs []error
	for _, l := range r.lanes {
		l.mu.Lock()
		errs = append(errs, r.save(ctx, l))
		l.mu.Unlock()
	}
	return errors.Join(errs...)
}

// raise appends the hit's flag unless one of the user and rule stands, or has
// been decided in the user's favour not long ago.
func (r *raiser) raise(ctx context.Context, h engine.Hit) error {
	tried := make(map[uuid.UUID]bool) // expiries that met a conflict
	for range maxRaises {
		err := r.tryRaise(ctx, h, tried)
		conflict, ok := errors.AsType[*log.ConflictError](err)
		switch {
		case !ok:
			return err
		case conflict.Claim != "": // another instance has used this part of the quota
		case tried[conflict.Event]: // the flag before, which somebody has decided on
		default:
			return nil // raised already, by this or another instance
		}
	}
	return fmt.Errorf("others were quicker %d times", maxRaises)
}

func (r *raiser) tryRaise(ctx context.Context, h engine.Hit, tried map[uuid.UUID]bool) error {
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	if r.board.Covers(h.User, h.Rule.ID, h.At) {
		return nil
	}
	shown, err := evidence.Read(ctx, r.activity, h.Shown())
	if err != nil {
		return err
	}
	raised, err := h.Flag(shown)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnflaggable, err)
	}
	lapsed, err := r.lapsed(h, tried)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnflaggable, err)
	}
	evs := append(slices.Clone(lapsed), raised)
	withheld := false
	if h.Rule.Effect == rule.FlagAndMark {
		var next events.Event
		if next, withheld, err = r.quota.follow(raised, h); err != nil {
			return fmt.Errorf("%w: %w", errUnflaggable, err)
		}
		evs = append(evs, next)
	}
	at, err := r.fraud.Append(ctx, evs...)
	if err != nil {
		met, _ := errors.AsType[*log.ConflictError](err)
		for _, e := range lapsed {
			if met != nil && e.ID == met.Event {
				tried[e.ID] = true
			}
		}
		return err
	}
	if !at[len(evs)-1].Duplicate {
		r.figures.raised(h.Rule)
		r.logger.InfoContext(ctx, "raised a flag", "flag", raised.Stream, "user", h.User, "rule", h.Rule.ID)
		if withheld {
			r.quota.tell(ctx, r.logger, raised, h)
		}
	}
	return nil
}

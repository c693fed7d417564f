package fraud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/evidence"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// raisedGroup names the checkpoint up to which flags have been raised.
	raisedGroup = "fraud-raised"
	// saveEvery is how often that checkpoint is saved at most while nothing is
	// raised. What is worked through again raises nothing twice.
	saveEvery = time.Second
)

// raiser runs the rules over the activity log and raises flags.
type raiser struct {
	fraud       *log.Log
	activity    log.Reader
	checkpoints subscription.Checkpoints
	clock       func() time.Time
	logger      *slog.Logger
	board       *flag.Board
	catchUp     func(context.Context) error // brings the board up to date
	figures     *figures

	lanes []*lane // by partition
	// hits counts, by rule, those in all of the log worked through so far.
	hits  map[string]*atomic.Uint64
	ready atomic.Bool // lanes and hits are there
}

// lane is one partition's share. Only its partition's handler touches it.
type lane struct {
	partition int
	engine    *engine.Engine
	// raised is up to where flags had been raised when the instance started.
	raised uint64
	// pending are hits whose flags are yet to be raised.
	pending []engine.Hit
	hits    []engine.Hit // reused
	saved   uint64
	savedAt time.Time
}

// start makes an engine for each partition and reads up to where flags have been
// raised.
func (r *raiser) start(ctx context.Context, rules []rule.Rule) error {
	lanes := make([]*lane, r.activity.Partitions())
	for p := range lanes {
		g, err := engine.New(rules)
		if err != nil {
			return err
		}
		raised, err := r.checkpoints.Load(ctx, raisedGroup, r.activity.Name(), p)
		if err != nil {
			return err
		}
		lanes[p] = &lane{partition: p, engine: g, raised: raised, saved: raised, savedAt: r.clock()}
	}
	hits := make(map[string]*atomic.Uint64, len(rules))
	for _, one := range rules {
		hits[one.ID] = new(atomic.Uint64)
	}
	r.lanes, r.hits = lanes, hits
	r.ready.Store(true)
	return nil
}

// handle works through a batch. When it fails it is called again with the same
// batch, which the engine then skips, and goes on with the hits that are left.
func (r *raiser) handle(ctx context.Context, b subscription.Batch) error {
	l := r.lanes[b.Partition]
	for i := range b.Events {
		l.hits = l.engine.Process(&b.Events[i], l.hits[:0])
		for _, h := range l.hits {
			r.hits[h.Rule.ID].Add(1)
			r.figures.hit(h.Rule)
			if h.Rule.Mode == rule.Live && h.Position.Sequence > l.raised {
				l.pending = append(l.pending, h)
			}
		}
	}
	raised := len(l.pending) > 0
	for len(l.pending) > 0 {
		if err := r.raise(ctx, l.pending[0]); err != nil {
			return fmt.Errorf("raise the flag of %s by %s: %w", l.pending[0].User, l.pending[0].Rule.ID, err)
		}
		l.pending = l.pending[1:]
	}
	l.pending = nil
	if raised || r.clock().Sub(l.savedAt) >= saveEvery {
		return r.save(ctx, l)
	}
	return nil
}

func (r *raiser) save(ctx context.Context, l *lane) error {
	last := l.engine.Last()
	if last <= l.saved {
		return nil
	}
	if err := r.checkpoints.Save(ctx, raisedGroup, r.activity.Name(), l.partition, last); err != nil {
		return err
	}
	l.saved, l.savedAt = last, r.clock()
	return nil
}

// hitsOf is how often a rule has hit, in all of the log worked through so far; nil
// if it is not run.
func (r *raiser) hitsOf(id string) *uint64 {
	if !r.ready.Load() || r.hits[id] == nil {
		return nil
	}
	n := r.hits[id].Load()
	return &n
}

// finish saves how far each partition has come.
func (r *raiser) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	var errs []error
	for _, l := range r.lanes {
		if len(l.pending) == 0 {
			errs = append(errs, r.save(ctx, l))
		}
	}
	return errors.Join(errs...)
}

// raise appends the hit's flag unless one of the user and rule stands, or has
// been decided in the user's favour not long ago.
func (r *raiser) raise(ctx context.Context, h engine.Hit) error {
	if err := r.catchUp(ctx); err != nil {
		return err
	}
	if r.board.Covers(h.User, h.Rule.ID, h.At) {
		return nil
	}
	shown, err := evidence.Read(ctx, r.activity, h.Position.Partition, h.Shown())
	if err != nil {
		return err
	}
	raised, err := h.Flag(shown)
	if err != nil {
		return err
	}
	evs := []events.Event{raised}
	if h.Rule.Effect == rule.FlagAndMark {
		confirmed, err := r.confirm(raised, h)
		if err != nil {
			return err
		}
		evs = append(evs, confirmed)
	}
	at, err := r.fraud.Append(ctx, evs...)
	switch {
	case errors.Is(err, log.ErrConflict): // raised already, by this or another instance
	case err != nil:
		return err
	case !at[0].Duplicate:
		r.figures.raised(h.Rule)
		r.logger.InfoContext(ctx, "raised a flag", "flag", raised.Stream, "user", h.User, "rule", h.Rule.ID)
	}
	return nil
}

// confirm makes the event by which a rule that marks confirms its own flag.
func (r *raiser) confirm(raised events.Event, h engine.Hit) (events.Event, error) {
	f := flag.Flag{ID: raised.Stream, User: h.User, Rule: h.Rule.ID, State: flag.Open, Version: raised.Version}
	e, err := f.Decide(flag.Confirm, ruleStream(h.Rule.ID), "by the rule", h.At)
	e.ID = events.DeriveID(f.ID, "confirmed by the rule")
	return e, err
}

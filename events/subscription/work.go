package subscription

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

const (
	// isolateAfter is the number of failures of a batch after which its events are
	// tried one by one.
	isolateAfter = 5
	// maxSuspects is how many keys may fail in a row, and none succeed, before
	// trying one by one is given up for this time.
	maxSuspects = 8
	// widest is how many batches' worth of events work may grow to, in the search
	// for others of a type.
	widest = 4
)

// batcher gathers consecutive events and hands them over in batches.
type batcher struct {
	*follower
	events []events.Recorded
}

// end is the last sequence that is gathered or worked through.
func (b *batcher) end() uint64 {
	if n := len(b.events); n > 0 {
		return b.events[n-1].Sequence
	}
	return b.position()
}

// add gathers the commit's events that are new. It is false once ctx has ended.
func (b *batcher) add(ctx context.Context, c events.Commit) bool {
	for e := range c.EventsAfter(b.end()) {
		b.events = append(b.events, e)
		if len(b.events) >= b.cfg.MaxBatch && !b.flush(ctx) {
			return false
		}
	}
	return true
}

// flush hands over what is gathered, again and again until it is handled or
// parked. It is false if ctx ended first.
func (b *batcher) flush(ctx context.Context) bool {
	if len(b.events) == 0 {
		return ctx.Err() == nil
	}
	w := &work{first: b.events[0].Sequence, last: b.end(), events: b.events}
	b.events = nil
	b.began(w)
	if b.retry(ctx, handleBatch, func(attempt int) error { return b.attempt(ctx, w, attempt) }) != nil {
		return false
	}
	b.follows = false
	b.advance(w.last, w.handled)
	return true
}

// began notes the age of what is being worked on.
func (f *follower) began(w *work) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.sawHead(w.last, f.cfg.Clock())
	f.state.oldest = w.events[0].RecordedAt
}

// work is a run of events, of which fewer are left as they are handled by
// themselves or parked.
type work struct {
	first, last uint64
	events      []events.Recorded
	handled     int
}

// take removes the events that it is told to.
func (w *work) take(is func(e *events.Recorded) bool) (taken []events.Recorded) {
	left := make([]events.Recorded, 0, len(w.events))
	for i := range w.events {
		if is(&w.events[i]) {
			taken = append(taken, w.events[i])
		} else {
			left = append(left, w.events[i])
		}
	}
	w.events = left
	return taken
}

// attempt tries to get the work done. It parks what the handler calls poisonous,
// and after some failures looks for what is.
func (f *follower) attempt(ctx context.Context, w *work, number int) error {
	if err := f.parkBehind(ctx, w); err != nil {
		return err
	}
	if err := f.parkOutdated(ctx, w); err != nil {
		return err
	}
	if number%isolateAfter == 0 {
		if err := f.isolate(ctx, w, number > isolateAfter); err != nil {
			return err
		}
	}
	for {
		err := f.call(ctx, Batch{Log: f.at.Log, Partition: f.at.Partition, First: w.first, Last: w.last, Events: w.events})
		if err == nil || errors.Is(err, ErrNothing) {
			w.handled += len(w.events)
			return nil
		}
		sequence, poisoned := poisonIn(err)
		if !poisoned {
			return err
		}
		if err := f.park(ctx, w, sequence, err); err != nil {
			return err
		}
	}
}

// suspect is an event that failed when it was handed over alone.
type suspect struct {
	event events.Recorded
	turn  int // when
}

// witness is an event that was handled well alone.
type witness suspect

// isolate hands the events over one by one. One that fails, and fails again while
// another of its type is handled well, is parked: it is the event and not an
// outage. Of its type, because a handler has nothing to do for many types, which
// always goes well.
func (f *follower) isolate(ctx context.Context, w *work, again bool) error {
	if err := f.widen(ctx, w, again); err != nil {
		return err
	}
	var suspects []suspect
	behind := make(map[uuid.UUID]bool)
	handled := make(map[uint64]bool)
	witnesses := make(map[string]witness) // the latest by type
	lonely := 0                           // suspects that came before any witness
	for turn, e := range w.events {
		if behind[e.Stream] {
			continue
		}
		err := f.alone(ctx, e)
		if err == nil {
			witnesses[e.Type] = witness{e, turn}
		}
		if err == nil || errors.Is(err, ErrNothing) {
			handled[e.Sequence] = true
			continue
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		behind[e.Stream] = true
		suspects = append(suspects, suspect{e, turn})
		if _, ok := witnesses[e.Type]; !ok {
			if lonely++; lonely == maxSuspects {
				break // nothing works
			}
		}
	}
	w.handled += len(w.take(func(e *events.Recorded) bool { return handled[e.Sequence] }))
	for _, s := range suspects {
		cause, err := f.convict(ctx, s, witnesses)
		if err == nil && cause != nil {
			err = f.park(ctx, w, s.event.Sequence, cause)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// convict tries a suspect again, between two moments in which its witness shows
// that others of its type are handled well. The cause is nil if it is not shown to
// be the event; an error says that nothing works now.
func (f *follower) convict(ctx context.Context, s suspect, witnesses map[string]witness) (cause, err error) {
	w, ok := witnesses[s.event.Type]
	if !ok {
		return nil, nil
	}
	if w.turn < s.turn {
		// Things may have changed since: ask it again. If there is nothing to do for
		// it any more, it says nothing.
		if err := f.alone(ctx, w.event); errors.Is(err, ErrNothing) {
			return nil, nil
		} else if err != nil {
			return nil, err
		}
	}
	cause = f.alone(ctx, s.event)
	if cause == nil || errors.Is(cause, ErrNothing) {
		return nil, nil // it will be handled with the rest, again
	}
	if err := f.alone(ctx, w.event); err != nil && !errors.Is(err, ErrNothing) {
		return nil, err
	}
	return cause, nil
}

// widen adds events of the log to work that has only one key, or that has been
// looked through before: that one fails alone does not show while there is no
// other of its type.
func (f *follower) widen(ctx context.Context, w *work, again bool) error {
	if len(w.events) == 0 || !again && slices.ContainsFunc(w.events, func(e events.Recorded) bool { return e.Stream != w.events[0].Stream }) {
		return nil
	}
	for c, err := range f.cfg.Log.Read(ctx, f.at.Partition, w.last) {
		if err != nil {
			return err
		}
		for e := range c.EventsAfter(w.last) {
			if len(w.events) >= widest*f.cfg.MaxBatch {
				return nil
			}
			w.events, w.last = append(w.events, e), e.Sequence
		}
	}
	if err := f.parkBehind(ctx, w); err != nil {
		return err
	}
	return f.parkOutdated(ctx, w)
}

// alone hands one event over, out of turn.
func (f *follower) alone(ctx context.Context, e events.Recorded) error {
	return f.call(ctx, Batch{
		Log: f.at.Log, Partition: f.at.Partition, First: e.Sequence, Last: e.Sequence,
		Events: []events.Recorded{e}, Late: true,
	})
}

// call calls the handler, whose panic is an error like any other.
func (f *follower) call(ctx context.Context, b Batch) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("the handler panicked: %v", v)
			f.logger.Error("subscription: the handler panicked", "panic", v, "first", b.First, "last", b.Last, "stack", string(debug.Stack()))
			if len(b.Events) == 1 {
				err = Poison(b.Events[0], err)
			}
		}
	}()
	return f.cfg.Handler(ctx, b)
}

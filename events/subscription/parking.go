package subscription

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// PoisonError says that an event will not be handled however often it is tried.
type PoisonError struct {
	Sequence uint64
	Err      error
}

func (e *PoisonError) Error() string { return fmt.Sprintf("the event at %d: %v", e.Sequence, e.Err) }
func (e *PoisonError) Unwrap() error { return e.Err }

// Poison is what a handler returns of an event that will not be handled however
// often it is tried, one whose payload cannot be read, say. The event is parked,
// and the batch handed over again without it and those of its stream behind it.
func Poison(e events.Recorded, err error) error { return &PoisonError{e.Sequence, err} }

func poisonIn(err error) (sequence uint64, ok bool) {
	if p, ok := errors.AsType[*PoisonError](err); ok {
		return p.Sequence, true
	}
	return 0, false
}

// remember takes over what is parked.
func (f *follower) remember(list []Parked) {
	f.parked, f.isParked = make(map[uuid.UUID]uint64), 0
	f.count(list...)
}

func (f *follower) count(list ...Parked) {
	if f.parked == nil {
		f.parked = make(map[uuid.UUID]uint64)
	}
	for _, p := range list {
		if first, ok := f.parked[p.Key]; !ok || p.Sequence < first {
			f.parked[p.Key] = p.Sequence
		}
	}
	f.isParked += len(list)
	f.mu.Lock()
	f.state.parked = f.isParked
	f.mu.Unlock()
}

// park puts an event aside, and those of its key behind it.
func (f *follower) park(ctx context.Context, w *work, sequence uint64, cause error) error {
	before := w.events
	taken := w.take(func(e *events.Recorded) bool { return e.Sequence == sequence })
	if len(taken) != 1 {
		return fmt.Errorf("the handler calls an event poisonous that is not in its batch: %w", cause)
	}
	if err := f.putAside(ctx, taken, cause); err != nil {
		w.events = before
		return err
	}
	f.logger.Error("subscription: parked an event; later ones of its key wait behind it until an operator has it retried or dropped",
		"sequence", sequence, "event", taken[0].ID, "type", taken[0].Type, "key", taken[0].Stream, "error", cause)
	return f.parkBehind(ctx, w)
}

// parkOutdated puts aside old versions of events that could not be read as the
// current one: a handler would take them for a type that is not its business.
func (f *follower) parkOutdated(ctx context.Context, w *work) error {
	for i := 0; i < len(w.events); i++ {
		if !events.IsSuperseded(w.events[i].Type) {
			continue
		}
		if _, err := events.Upcast(w.events[i]); err != nil {
			if err := f.park(ctx, w, w.events[i].Sequence, err); err != nil {
				return err
			}
			i = -1 // what is left has moved
		}
	}
	return nil
}

// parkBehind puts aside the events that stand behind a parked one of their key.
func (f *follower) parkBehind(ctx context.Context, w *work) error {
	if f.isParked == 0 {
		return nil
	}
	before := w.events
	taken := w.take(func(e *events.Recorded) bool {
		first, ok := f.parked[e.Stream]
		return ok && e.Sequence > first
	})
	if err := f.putAside(ctx, taken, nil); err != nil {
		w.events = before
		return err
	}
	return nil
}

func (f *follower) putAside(ctx context.Context, list []events.Recorded, cause error) error {
	if len(list) == 0 {
		return nil
	}
	if f.isParked+len(list) > MaxParked {
		return fmt.Errorf("%d events are parked and %d more would have to be, at most %d may: retry or drop some", f.isParked, len(list), MaxParked)
	}
	parked := make([]Parked, len(list))
	for i, e := range list {
		parked[i] = Parked{
			Place: f.at, Sequence: e.Sequence, Event: e.ID, Type: e.Type, Key: e.Stream,
			ParkedAt: f.cfg.Clock().UTC().Truncate(time.Microsecond),
		}
		if cause != nil {
			parked[i].Reason, parked[i].Attempts = reason(cause), 1
		}
	}
	if err := f.cfg.Ledger.Park(ctx, parked...); err != nil {
		return fmt.Errorf("park: %w", err)
	}
	f.count(parked...)
	return nil
}

// reason is an error's text, cut to its bound.
func reason(err error) string {
	s := err.Error()
	if len(s) > MaxReason {
		s = s[:MaxReason]
	}
	return strings.ToValidUTF8(s, "")
}

// tend does what operators have ordered, and goes on with keys whose first event
// failed no more.
func (f *follower) tend(ctx context.Context) error {
	list, err := f.cfg.Ledger.Parked(ctx, f.at)
	if err != nil {
		return err
	}
	stuck := make(map[uuid.UUID]bool)
	left := list[:0]
	for _, p := range list {
		if p.Order == Drop {
			if err := f.cfg.Ledger.Unpark(ctx, f.at, p.Sequence); err != nil {
				return err
			}
			f.logger.Warn("subscription: dropped a parked event, as ordered", "sequence", p.Sequence, "event", p.Event, "key", p.Key)
			continue
		}
		if !stuck[p.Key] && (p.Order == Retry || p.Reason == "") {
			done, err := f.retryParked(ctx, p)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		stuck[p.Key] = true
		left = append(left, p)
	}
	f.remember(left)
	return nil
}

// retryParked hands a parked event over again. If that fails, the event stays and
// has a new reason.
func (f *follower) retryParked(ctx context.Context, p Parked) (done bool, err error) {
	e, err := log.Get(ctx, f.cfg.Log, events.Position{Partition: f.at.Partition, Sequence: p.Sequence})
	if err == nil {
		e, err = events.Upcast(e)
	}
	if err == nil {
		err = f.alone(ctx, e)
	}
	if errors.Is(err, ErrNothing) {
		err = nil
	}
	if ctx.Err() != nil {
		return false, ctx.Err()
	}
	if err != nil {
		p.Reason, p.Order = reason(err), ""
		p.Attempts++
		return false, f.cfg.Ledger.Park(ctx, p)
	}
	f.logger.Info("subscription: handled a parked event", "sequence", p.Sequence, "event", p.Event, "key", p.Key)
	return true, f.cfg.Ledger.Unpark(ctx, f.at, p.Sequence)
}

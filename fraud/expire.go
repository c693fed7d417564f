package fraud

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/engine"
)

const (
	// defaultExpireEvery is how often flags are looked for whose time is over.
	defaultExpireEvery = time.Minute
	// expireBatch is how many of them one commit takes.
	expireBatch = 500
)

// expire looks for open flags whose time is over, and says so in the log, until
// ctx ends. Every instance does; the flags' versions decide who is first.
func (s *Service) expire(ctx context.Context) error {
	tick := time.NewTicker(s.cfg.ExpireEvery)
	defer tick.Stop()
	for {
		if err := s.expireDue(ctx); err != nil && ctx.Err() == nil {
			s.deps.Logger.WarnContext(ctx, "flags whose time is over cannot be expired yet", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// expireDue expires what is due, until nothing is or others are at it.
func (s *Service) expireDue(ctx context.Context) error {
	for {
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		due := s.board.Due(s.deps.Clock(), expireBatch)
		if len(due) == 0 {
			return nil
		}
		over := make([]events.Event, len(due))
		for i := range due {
			var err error
			if over[i], err = due[i].Expire(s.deps.Clock()); err != nil {
				return err
			}
		}
		written, err := s.appendExpiries(ctx, over)
		if written > 0 {
			s.deps.Logger.InfoContext(ctx, "flags have expired", "flags", written)
		}
		if err != nil || written == 0 {
			return err
		}
	}
}

// appendExpiries appends those that still follow: if somebody has been quicker with
// one of them, each by itself.
func (s *Service) appendExpiries(ctx context.Context, over []events.Event) (written int, err error) {
	at, err := s.appendBounded(ctx, over...)
	if errors.Is(err, log.ErrConflict) && len(over) > 1 {
		for _, e := range over {
			n, err := s.appendExpiries(ctx, []events.Event{e})
			if written += n; err != nil {
				return written, err
			}
		}
		return written, nil
	}
	if err != nil && !errors.Is(err, log.ErrConflict) {
		return 0, err
	}
	for _, a := range at {
		if !a.Duplicate {
			written++
		}
	}
	return written, nil
}

// appendBounded appends within appendTimeout.
func (s *Service) appendBounded(ctx context.Context, evs ...events.Event) ([]log.Appended, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	return s.deps.Log.Append(ctx, evs...)
}

// lapsed makes the events by which the flags that a hit finds lapsed expire. They
// are written with the flag that takes their place, so that two of one user and
// rule are never open, whether their time has been noticed or not. An event that
// is left out is not made.
func (r *raiser) lapsed(h engine.Hit, leftOut map[uuid.UUID]bool) (evs []events.Event, err error) {
	for _, f := range r.board.Lapsed(h.User, h.Rule.ID, h.At) {
		e, err := f.Expire(h.At)
		if err != nil {
			return nil, err
		}
		if !leftOut[e.ID] {
			evs = append(evs, e)
		}
	}
	return evs, nil
}

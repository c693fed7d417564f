package activity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// visibility follows the marks of the user log and writes into the actor's own
// partition from where on what they did is hidden or shown. It keeps no state:
// how a user stood just before and after a mark is folded from the user's stream,
// so that any instance may go on where another has stopped.
type visibility struct {
	users log.Reader
	log   *log.Log
}

// handle is the subscription's handler. One event is written after the other, so
// that a user's keep their order whatever becomes of each. One that comes again,
// even late, is known by its claim.
func (v *visibility) handle(ctx context.Context, b subscription.Batch) error {
	result := subscription.ErrNothing
	for _, e := range b.Events {
		if e.Type != events.UserMarkedFraudulent && e.Type != events.UserCleared {
			continue
		}
		change, err := v.change(ctx, e)
		if err != nil {
			return err
		}
		if change == "" {
			continue
		}
		if err := v.write(ctx, change, e); err != nil {
			return fmt.Errorf("write %s for %s: %w", change, e.ID, err)
		}
		result = nil
	}
	return result
}

// write appends the event that follows from a cause, unless it is there. That the
// cause is claimed keeps it from being written twice even long after the log has
// forgotten its ID, when a ledger is lost.
func (v *visibility) write(ctx context.Context, change string, cause events.Recorded) error {
	data, err := json.Marshal(events.Visibility{Cause: cause.ID})
	if err != nil {
		return err
	}
	e := events.Event{
		ID:         events.DeriveID(cause.ID, "visibility"),
		Type:       change,
		Stream:     cause.Stream,
		OccurredAt: cause.OccurredAt,
		Claims:     []string{"visibility/" + cause.ID.String()},
		Data:       data,
	}
	written, err := v.log.Append(ctx, e)
	if err == nil && written[0].Duplicate {
		err = v.insist(ctx, e, written[0].Position)
	}
	if errors.Is(err, log.ErrConflict) {
		return nil // the claim is held: it was written before
	}
	return err
}

// insist writes an event whose ID is in the log already, if what is there is
// something else. A derived ID can be known beforehand by the very user whom the
// event is about, and activities carry IDs of their clients' making: nobody must
// escape by having been there first.
func (v *visibility) insist(ctx context.Context, e events.Event, at events.Position) error {
	there, err := log.Get(ctx, v.log, at)
	if err != nil {
		return err
	}
	if there.Type == e.Type && there.Stream == e.Stream {
		return nil
	}
	e.ID = uuid.New()
	_, err = v.log.Append(ctx, e)
	return err
}

// change is the type of the event that follows from a mark or its clearing; empty
// if the user's standing as a whole stays as it was. A cause that cannot be read is
// poisonous. One before it in the user's history that cannot be is parked or was
// dropped, and changes nothing.
func (v *visibility) change(ctx context.Context, cause events.Recorded) (string, error) {
	history, err := log.ReadStream(ctx, v.users, cause.Stream)
	if err != nil {
		return "", err
	}
	var s standing
	for _, e := range history {
		if e.Sequence >= cause.Sequence {
			break
		}
		_ = s.apply(e)
	}
	before := s.fraudulent()
	if err := s.apply(cause); err != nil {
		return "", subscription.Poison(cause, err)
	}
	switch after := s.fraudulent(); {
	case after && !before:
		return events.ActorHidden, nil
	case before && !after:
		return events.ActorRestored, nil
	}
	return "", nil
}

// standing is the flags for which a user is marked at present.
type standing struct {
	marks map[string]struct{}
}

// fraudulent says whether any mark is left.
func (s *standing) fraudulent() bool { return len(s.marks) > 0 }

func (s *standing) apply(e events.Recorded) error {
	if e.Type != events.UserMarkedFraudulent && e.Type != events.UserCleared {
		return nil
	}
	p, err := events.Unmarshal[events.Standing](e)
	if err != nil {
		return err
	}
	s.set(e.Type, p.Flag)
	return nil
}

// set notes a mark, or that one is cleared.
func (s *standing) set(eventType, flag string) {
	switch {
	case eventType == events.UserCleared:
		delete(s.marks, flag)
	case s.marks == nil:
		s.marks = map[string]struct{}{flag: {}}
	default:
		s.marks[flag] = struct{}{}
	}
}

// newSubscription follows the user log, over the bus if there is one. With a
// ledger, instances share the work; without, each does it for itself.
func newSubscription(d Deps, group string, ledger subscription.Ledger, handler subscription.Handler) (*subscription.Subscription, error) {
	cfg := subscription.Config{
		Log: d.Users, Group: group, Handler: handler, Ledger: ledger,
		Logger: d.Logger, Clock: d.Clock,
	}
	if d.Follow != nil {
		queues := group
		if ledger == nil {
			queues = "" // its own alone
		}
		var err error
		if cfg.Bus, err = d.Follow(queues); err != nil {
			return nil, fmt.Errorf("follow the %s log: %w", d.Users.Name(), err)
		}
	}
	return subscription.New(cfg), nil
}

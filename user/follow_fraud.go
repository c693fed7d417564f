package user

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/user/account"
)

// standingPurpose derives the ID of the event that follows from a decision.
const standingPurpose = "standing"

// applyDecisions marks the users whose flags were confirmed, and clears those
// whose flags were overturned, or the other way round if that was undone. An upheld
// flag leaves its mark where it is. A decision that comes again, even late, finds
// that it was applied.
func (s *Service) applyDecisions(ctx context.Context, b subscription.Batch) error {
	result := subscription.ErrNothing
	for _, e := range b.Events {
		d, eventType, err := standingAfter(e)
		if err != nil {
			return subscription.Poison(e, err)
		}
		if eventType == "" {
			continue
		}
		applied, err := s.applyDecision(ctx, d.User, e, step{
			ID:      events.DeriveID(e.ID, standingPurpose),
			Type:    eventType,
			Payload: events.Standing{Flag: e.Stream.String(), Rule: d.Rule},
		})
		if err != nil {
			return err
		}
		if applied {
			result = nil
		}
	}
	return result
}

// The decisions that mark and clear, as an undone one names them.
const (
	confirm  = "confirm"
	overturn = "overturn"
)

// standingAfter returns the decision in an event of the fraud log, and the type of
// the event that follows from it; none if nothing does.
func standingAfter(e events.Recorded) (d events.Decision, eventType string, err error) {
	switch e.Type {
	case events.FlagConfirmed:
		eventType = events.UserMarkedFraudulent
	case events.FlagOverturned:
		eventType = events.UserCleared
	case events.DecisionUndone:
		u, err := events.Unmarshal[events.UndoneDecision](e)
		switch u.Undoes {
		case confirm:
			eventType = events.UserCleared
		case overturn:
			eventType = events.UserMarkedFraudulent
		}
		return events.Decision{User: u.User, Rule: u.Rule, By: u.By}, eventType, err
	default:
		return events.Decision{}, "", nil
	}
	d, err = events.Unmarshal[events.Decision](e)
	return d, eventType, err
}

// applyDecision appends what follows from a decision unless that is there. An
// erased user is marked, too: what they did is still in others' lists. It tells
// whether it did.
func (s *Service) applyDecision(ctx context.Context, user uuid.UUID, decision events.Recorded, next step) (applied bool, err error) {
	_, err = s.change(ctx, user, func(a account.Account) (step, error) {
		if a.Decided(next.ID) {
			return step{}, nil
		}
		applied = true
		return next, nil
	})
	if errors.Is(err, account.ErrUnknown) {
		s.logger.WarnContext(ctx, "a flag is about a user who is not known", "flag", decision.Stream, "user", user)
		return false, nil
	}
	return applied, err
}

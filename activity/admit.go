package activity

import (
	"context"
	"fmt"
	"time"

	"github.com/meet5/backend/service/problem"
)

// admit finds out when the command's actor joined, and that its target exists. It
// reads the user log to its end before it calls anyone unknown.
func (s *Service) admit(ctx context.Context, c *command) (joinedAt time.Time, err error) {
	joinedAt, actorKnown, targetKnown := s.users.pair(c.actor, c.target)
	if !actorKnown || !targetKnown {
		if err := s.late.wait(ctx); err != nil {
			return joinedAt, behind(err)
		}
		joinedAt, actorKnown, targetKnown = s.users.pair(c.actor, c.target)
	}
	return joinedAt, c.unknown(actorKnown, targetKnown)
}

// unknown is how a command is refused whose actor or target does not exist.
func (c *command) unknown(actorKnown, targetKnown bool) error {
	switch {
	case !actorKnown && c.actorGiven:
		return problem.Invalid(problem.Field("actor", "is no user that exists"))
	case !actorKnown:
		return problem.Forbidden("this account does not exist any more")
	case !targetKnown:
		p := problem.NotFound("there is no user with the target's ID")
		p.Errors = []problem.FieldError{problem.Field("target", "is no user that exists")}
		return p
	}
	return nil
}

func behind(err error) error {
	return fmt.Errorf("%w: %w", problem.Unavailable("whether this user exists cannot be told right now", retryAfter), err)
}

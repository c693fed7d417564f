package activity

import (
	"context"
	"fmt"

	"github.com/meet5/backend/service/problem"
)

// admit finds out what is known of the command's actor, and that its target exists. It
// reads the user log to its end before it calls anyone unknown.
func (s *Service) admit(ctx context.Context, c *command) (pair, error) {
	known := s.users.pair(c.actor, c.target)
	if !known.actorKnown || !known.targetKnown {
		if err := s.late.wait(ctx); err != nil {
			return known, behind(err)
		}
		known = s.users.pair(c.actor, c.target)
	}
	return known, c.unknown(known)
}

// unknown is how a command is refused whose actor or target does not exist.
func (c *command) unknown(known pair) error {
	switch {
	case !known.actorKnown && c.actorGiven:
		return problem.Invalid(problem.Field("actor", "is no user that exists"))
	case !known.actorKnown:
		return problem.Forbidden("this account does not exist any more")
	case !known.targetKnown:
		p := problem.NotFound("there is no user with the target's ID")
		p.Errors = []problem.FieldError{problem.Field("target", "is no user that exists")}
		return p
	}
	return nil
}

func behind(err error) error {
	return fmt.Errorf("%w: %w", problem.Unavailable("whether this user exists cannot be told right now", retryAfter), err)
}

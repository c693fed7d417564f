package fraud

import (
	"errors"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
)

// errTaken says that another moderator was quicker.
var errTaken = errors.New("the flag has been taken")

// takeNext is POST /v1/moderation/flags/next: it assigns to the caller, and
// answers with, the most urgent flag that nobody has taken; 204 if there is none.
func (s *Service) takeNext(c echo.Context) error {
	ctx := c.Request().Context()
	// One at a time, since all would be after the same flag. Other instances are
	// met through the log.
	select {
	case s.taking <- struct{}{}:
		defer func() { <-s.taking }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for range maxTries {
		if err := s.catchUp(ctx); err != nil {
			return err
		}
		f, ok := s.board.MostUrgent()
		if !ok {
			return c.NoContent(http.StatusNoContent)
		}
		r, err := s.change(ctx, f.ID, func(r flag.Record) (events.Event, error) {
			if r.Assignee != uuid.Nil || !r.State.Waiting() {
				return events.Event{}, errTaken
			}
			return r.Assign(caller(c), caller(c), s.deps.Clock())
		})
		if errors.Is(err, errTaken) {
			continue
		}
		if err != nil {
			return err
		}
		return answerWithFlag(c, r)
	}
	return problem.Unavailable("many moderators take flags at this moment; try again", retryAfter)
}

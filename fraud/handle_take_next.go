package fraud

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// errTaken says that another moderator was quicker.
var errTaken = errors.New("the flag has been taken")

// errOver says that the flag's time is over, and nobody has noticed.
var errOver = errors.New("the flag's time is over")

type nextBody struct {
	Rule     string `json:"rule"`
	MinScore int    `json:"min_score"`
}

// readNext reads the body of takeNext, which may be left out.
func readNext(c echo.Context) (body nextBody, err error) {
	if err := bindOptional(c, &body); err != nil {
		return nextBody{}, err
	}
	var faults []problem.FieldError
	if body.Rule != "" && !rule.IsID(body.Rule) {
		faults = append(faults, problem.Field("rule", "must be a rule's id"))
	}
	if body.MinScore < 0 || body.MinScore > rule.MaxScore {
		faults = append(faults, problem.Field("min_score", "must be a whole number from 0 to 100"))
	}
	if len(faults) > 0 {
		return nextBody{}, problem.Invalid(faults...)
	}
	return body, nil
}

// bindOptional is web.Bind for a body that may be left out.
func bindOptional(c echo.Context, into any) error {
	if c.Request().ContentLength == 0 {
		return nil
	}
	return web.Bind(c, into)
}

// takeNext is POST /v1/moderation/flags/next: it assigns to the caller, and
// answers with, the most urgent flag that nobody has taken; 204 if there is none.
// A body may ask for flags of one rule, or of at least a score.
func (s *Service) takeNext(c echo.Context) error {
	ctx := c.Request().Context()
	wanted, err := readNext(c)
	if err != nil {
		return err
	}
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
		f, ok := s.board.MostUrgent(wanted.Rule, wanted.MinScore)
		if !ok {
			return c.NoContent(http.StatusNoContent)
		}
		r, err := s.change(ctx, f.ID, func(_ context.Context, r flag.Record) (events.Event, error) {
			if r.Assignee != uuid.Nil || !r.State.Waiting() {
				return events.Event{}, errTaken
			}
			if r.Due(s.deps.Clock()) {
				return events.Event{}, errOver
			}
			return r.Assign(caller(c), caller(c), s.deps.Clock())
		})
		switch {
		case errors.Is(err, errTaken):
			continue
		case errors.Is(err, errOver):
			if err := s.expireDue(ctx); err != nil {
				return unavailable(err)
			}
			continue
		}
		if err != nil {
			return err
		}
		return s.answerWithFlag(c, r)
	}
	return problem.Unavailable("many moderators take flags at this moment; try again", retryAfter)
}

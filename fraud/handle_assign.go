package fraud

import (
	"context"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

type assigneeBody struct {
	Assignee web.Optional[uuid.UUID] `json:"assignee"`
}

// assign is POST /v1/moderation/flags/{id}/assignee. Null gives the flag back.
func (s *Service) assign(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body assigneeBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if a := body.Assignee; !a.Set || !a.Null && a.Value == uuid.Nil {
		return problem.Invalid(problem.Field("assignee", "must be a moderator's id, or null to give the flag back"))
	}
	r, err := s.change(c.Request().Context(), id, func(_ context.Context, r flag.Record) (events.Event, error) {
		if err := web.IfMatchOptional(c, web.ETag(r.Version)); err != nil {
			return events.Event{}, err
		}
		return r.Assign(body.Assignee.Value, caller(c), s.deps.Clock())
	})
	if err != nil {
		return err
	}
	return s.answerWithFlag(c, r)
}

package fraud

import (
	"context"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

type noteBody struct {
	Text string `json:"text"`
}

// annotate is POST /v1/moderation/flags/{id}/notes. Nothing is written about who is
// erased: 409.
func (s *Service) annotate(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body noteBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if faults := checkText(nil, "text", body.Text, 1); len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	r, err := s.change(c.Request().Context(), id, func(ctx context.Context, r flag.Record) (events.Event, error) {
		if err := web.IfMatchOptional(c, web.ETag(r.Version)); err != nil {
			return events.Event{}, err
		}
		text, err := s.texts.seal(ctx, r.User, r.ID, body.Text)
		if err != nil {
			return events.Event{}, err
		}
		return r.Annotate(caller(c), text, s.deps.Clock())
	})
	if err != nil {
		return err
	}
	return s.answerWithFlag(c, r)
}

package fraud

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

type appealBody struct {
	Flag uuid.UUID `json:"flag"`
	Text string    `json:"text"`
}

type appealAnswer struct {
	Flag   uuid.UUID  `json:"flag"`
	State  flag.State `json:"state"`
	Text   string     `json:"text"`
	Erased bool       `json:"erased,omitempty"`
	At     stamp      `json:"at"`
}

// errNoAppellant is the 404 of one's own account after it was erased.
var errNoAppellant = problem.NotFound("there is no such user, or they have erased their account")

// appeal is POST /v1/me/appeals. What the flag rests on is not shown, and another
// user's flag is as good as none.
func (s *Service) appeal(c echo.Context) error {
	var body appealBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	var faults []problem.FieldError
	if body.Flag == uuid.Nil {
		faults = append(faults, problem.Field("flag", "must be the flag's id"))
	}
	if faults = checkText(faults, "text", body.Text, 1); len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	at := s.deps.Clock()
	r, err := s.change(c.Request().Context(), body.Flag, func(ctx context.Context, r flag.Record) (events.Event, error) {
		if r.User != caller(c) {
			return events.Event{}, errNoFlag
		}
		text, err := s.texts.seal(ctx, r.User, r.ID, body.Text)
		if errors.Is(err, errErased) { // the token has outlived the account
			return events.Event{}, errNoAppellant
		}
		if err != nil {
			return events.Event{}, err
		}
		return r.Appeal(caller(c), text, at)
	})
	if err != nil {
		return err
	}
	return c.JSON(http.StatusCreated, appealAnswer{Flag: r.ID, State: r.State, Text: body.Text, At: stamp(at)})
}

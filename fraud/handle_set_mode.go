package fraud

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

type modeBody struct {
	Mode rule.Mode `json:"mode"`
	Why  string    `json:"why"`
	// Force lets a draft go live without having been in shadow.
	Force bool `json:"force"`
}

// setMode is POST /v1/moderation/rules/{id}/mode.
func (s *Service) setMode(c echo.Context) error {
	var body modeBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	var faults []problem.FieldError
	if !slices.Contains(register.Modes(), body.Mode) {
		faults = append(faults, problem.Field("mode", "must be one of "+list(register.Modes())))
	}
	if fault := register.CheckWhy(body.Why); fault != "" {
		faults = append(faults, problem.Field("why", fault))
	}
	if len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	id := c.Param("id")
	_, err := s.changeRule(c.Request().Context(), func() (events.Event, error) {
		if k, there := s.rules.Get(id); there {
			if err := web.IfMatchOptional(c, web.ETag(k.Changes)); err != nil {
				return events.Event{}, err
			}
		}
		e, err := s.rules.SetMode(id, body.Mode, body.Force, register.Change{At: s.deps.Clock(), By: caller(c).String(), Why: body.Why})
		return e, asProblem(err)
	})
	if err != nil {
		return err
	}
	return s.answerWithRule(c, http.StatusOK, id)
}

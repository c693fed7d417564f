package fraud

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// putRule is PUT /v1/moderation/rules/{id}?why=. The body is the rule, as JSON or
// YAML; its mode is to be left out, or what it is.
func (s *Service) putRule(c echo.Context) error {
	list, err := readRules(c)
	if faults, ok := errors.AsType[rule.Faults](err); ok {
		return faulty(faults)
	}
	if err != nil {
		return err
	}
	r := list[0]
	var faults []problem.FieldError
	if len(list) > 1 {
		faults = append(faults, problem.Field("", "there are several rules in it; put them one by one"))
	} else if r.ID != c.Param("id") {
		faults = append(faults, problem.Field("id", "is "+r.ID+", and the path says "+c.Param("id")+"; a rule keeps its id"))
	}
	why := c.QueryParam("why")
	if fault := register.CheckWhy(why); fault != "" {
		faults = append(faults, problem.Field("why", fault))
	}
	if len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	fresh := false
	changed, err := s.changeRule(c.Request().Context(), func() (events.Event, error) {
		k, there := s.rules.Get(r.ID)
		fresh = !there
		if there || c.Request().Header.Get("If-Match") != "" {
			if err := web.IfMatchOptional(c, web.ETag(k.Changes)); err != nil {
				return events.Event{}, err
			}
		}
		if !there && r.Mode != rule.Draft {
			return events.Event{}, problem.Invalid(problem.Field("mode", "a new rule begins as a draft; leave it out, and POST to …/mode afterwards"))
		}
		if there && r.Mode != rule.Draft && r.Mode != k.Mode {
			return events.Event{}, problem.Invalid(problem.Field("mode", "is "+string(k.Mode)+" and is not changed like this; leave it out, and POST to …/mode"))
		}
		e, err := s.rules.Put(r, register.Change{At: s.deps.Clock(), By: caller(c).String(), Why: why})
		return e, asProblem(err)
	})
	if err != nil {
		return err
	}
	if changed && fresh {
		return s.answerWithRule(c, http.StatusCreated, r.ID)
	}
	return s.answerWithRule(c, http.StatusOK, r.ID)
}

// asProblem makes a problem of what the register says against a change.
func asProblem(err error) error {
	faults, isFaulty := errors.AsType[rule.Faults](err)
	switch {
	case isFaulty:
		return faulty(faults)
	case errors.Is(err, register.ErrUnknown):
		return errNoRule
	case errors.Is(err, register.ErrRefused):
		return problem.Conflict(err.Error())
	}
	return err
}

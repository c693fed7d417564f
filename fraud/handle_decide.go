package fraud

import (
	"context"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

type decisionBody struct {
	Decision flag.Decision `json:"decision"`
	Note     string        `json:"note"`
}

// decide is POST /v1/moderation/flags/{id}/decision. If the user is erased, it is made
// without a note, and a 409 with one.
func (s *Service) decide(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body decisionBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	var faults []problem.FieldError
	if !slices.Contains(flag.Decisions(), body.Decision) {
		faults = append(faults, problem.Field("decision", "must be one of "+list(flag.Decisions())))
	}
	faults = checkText(faults, "note", body.Note, 0)
	if len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	r, err := s.change(c.Request().Context(), id, func(ctx context.Context, r flag.Record) (events.Event, error) {
		if err := web.IfMatchOptional(c, web.ETag(r.Version)); err != nil {
			return events.Event{}, err
		}
		note, err := s.texts.seal(ctx, r.User, r.ID, body.Note)
		if err != nil {
			return events.Event{}, err
		}
		return r.Decide(body.Decision, caller(c), note, s.deps.Clock())
	})
	if err != nil {
		return err
	}
	return s.answerWithFlag(c, r)
}

// checkText adds a fault if the text has fewer than least or more than MaxNote
// characters.
func checkText(faults []problem.FieldError, field, text string, least int) []problem.FieldError {
	switch n := utf8.RuneCountInString(text); {
	case n < least:
		return append(faults, problem.Field(field, "must not be empty"))
	case n > MaxNote:
		return append(faults, problem.Field(field, "must be at most "+strconv.Itoa(MaxNote)+" characters"))
	}
	return faults
}

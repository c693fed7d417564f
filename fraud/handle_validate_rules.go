package fraud

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/cost"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/trial"
	"github.com/meet5/backend/service/problem"
)

// maxValidated is how many rules are looked at in one call: the cases of one may take
// some tenths of a second.
const maxValidated = 10

// validationAnswer says what is to be said of rules. Nothing becomes of them.
type validationAnswer struct {
	Valid  bool          `json:"valid"` // there are no faults, and every case passes
	Errors rule.Faults   `json:"errors"`
	Rules  []triedAnswer `json:"rules"`
}

// triedAnswer is a rule without faults, tried.
type triedAnswer struct {
	ID      string `json:"id"`
	Version string `json:"version"`
	// Known says that there is a rule of that ID, Changed that its version differs.
	Known   bool         `json:"known"`
	Changed bool         `json:"changed"`
	Cases   []caseAnswer `json:"cases"`
	Cost    costAnswer   `json:"cost"`
}

type caseAnswer struct {
	Name   string          `json:"name"`
	Passed bool            `json:"passed"`
	Want   []rule.Duration `json:"want"` // when it should fire, from the history's beginning
	Got    []rule.Duration `json:"got"`
}

// costAnswer is what a rule costs: an event, measured on made-up ones just now, and at
// most what it keeps of one user.
type costAnswer struct {
	Nanoseconds int64     `json:"nanoseconds_per_event"`
	Slow        bool      `json:"slow"`
	KeepsAtMost rule.Cost `json:"keeps_at_most"`
}

// validateRules is POST /v1/moderation/rules/validate. The body is rules, as JSON or
// YAML.
func (s *Service) validateRules(c echo.Context) error {
	list, err := readRules(c)
	if faults, ok := errors.AsType[rule.Faults](err); ok {
		return c.JSON(http.StatusOK, validationAnswer{Errors: faults, Rules: []triedAnswer{}})
	}
	if err != nil {
		return err
	}
	if len(list) > maxValidated {
		return problem.Invalid(problem.Field("", fmt.Sprintf("there are %d rules in it, at most %d are looked at in one call", len(list), maxValidated)))
	}
	ctx := c.Request().Context()
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	select {
	case s.trying <- struct{}{}: // one at a time: it takes all of a core
		defer func() { <-s.trying }()
	case <-ctx.Done():
		return ctx.Err()
	}
	a := validationAnswer{Valid: true, Errors: rule.Faults{}, Rules: make([]triedAnswer, len(list))}
	for i, r := range list {
		if a.Rules[i], err = s.try(ctx, r); err != nil {
			return err
		}
		for _, one := range a.Rules[i].Cases {
			a.Valid = a.Valid && one.Passed
		}
	}
	return c.JSON(http.StatusOK, a)
}

// try runs a rule's cases and measures what it costs.
func (s *Service) try(ctx context.Context, r rule.Rule) (triedAnswer, error) {
	if ctx.Err() != nil {
		return triedAnswer{}, ctx.Err()
	}
	results, err := trial.Run(r)
	if err != nil {
		return triedAnswer{}, fmt.Errorf("try rule %s: %w", r.ID, err)
	}
	took, err := cost.Measure(r)
	if err != nil {
		return triedAnswer{}, err
	}
	k, known := s.rules.Get(r.ID)
	a := triedAnswer{
		ID: r.ID, Version: r.Version(), Known: known, Changed: k.Current().Hash != r.Version(),
		Cases: make([]caseAnswer, len(results)),
		Cost:  costAnswer{Nanoseconds: took.Nanoseconds(), Slow: took > cost.Slow, KeepsAtMost: r.Cost()},
	}
	for i, result := range results {
		a.Cases[i] = caseAnswer{Name: result.Case, Passed: result.Passed(), Want: orEmpty(result.Want), Got: orEmpty(result.Got)}
	}
	return a, nil
}

func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

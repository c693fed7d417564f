package fraud

import (
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// ruleCursor ties cursors to the listing of rules, which goes by ID.
const ruleCursor = "rules"

// Media types of rules.
const (
	jsonType = "application/json"
	yamlType = "application/yaml"
)

var (
	// errNoRule is the 404 of a rule that is not there.
	errNoRule = problem.NotFound("there is no such rule")
	// errBusyRule is the 409 of a rule that others do not cease to change.
	errBusyRule = problem.Conflict("others keep changing this rule; read it again and decide then")
)

// listRules is GET /v1/moderation/rules. Cases are left out.
func (s *Service) listRules(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	after := ""
	if cursor != "" {
		if err := web.DecodeCursor(ruleCursor, cursor, &after); err != nil {
			return err
		}
	}
	if err := s.catchUp(c.Request().Context()); err != nil {
		return err
	}
	known, _ := s.rules.All()
	known = slices.DeleteFunc(known, func(k register.Rule) bool { return k.ID <= after })
	next := ""
	if len(known) > limit {
		known = known[:limit]
		next = web.EncodeCursor(ruleCursor, known[limit-1].ID)
	}
	items := make([]ruleAnswer, len(known))
	for i, k := range known {
		items[i] = s.answerRule(k)
		items[i].Cases = nil
	}
	return web.List(c, items, next)
}

// showRule is GET /v1/moderation/rules/{id}. As YAML it is the rule alone, ready to be
// changed and put.
func (s *Service) showRule(c echo.Context) error {
	k, err := s.readRule(c)
	if err != nil {
		return err
	}
	web.SetETag(c, web.ETag(k.Changes))
	if !strings.HasPrefix(c.Request().Header.Get(echo.HeaderAccept), yamlType) {
		return c.JSON(http.StatusOK, s.answerRule(k))
	}
	if k.Fault != nil {
		return problem.Conflict("this build cannot read the rule: " + k.Fault.Error())
	}
	text, err := register.YAML(k.Spec)
	if err != nil {
		return err
	}
	return c.Blob(http.StatusOK, yamlType, text)
}

// readRule finds the rule of a route's path.
func (s *Service) readRule(c echo.Context) (register.Rule, error) {
	if err := s.catchUp(c.Request().Context()); err != nil {
		return register.Rule{}, err
	}
	k, ok := s.rules.Get(c.Param("id"))
	if !ok {
		return register.Rule{}, errNoRule
	}
	return k, nil
}

// readRules reads the rules of a body.
func readRules(c echo.Context) ([]rule.Rule, error) {
	if web.RequireContentType(c, yamlType) != nil && web.RequireContentType(c, jsonType) != nil {
		return nil, problem.UnsupportedMediaType("send the rule as Content-Type: application/json or application/yaml")
	}
	text, err := web.ReadBody(c)
	if err != nil {
		return nil, err
	}
	return rule.Parse(text)
}

// faulty makes a problem of what is wrong with a text of rules.
func faulty(faults rule.Faults) error {
	fields := make([]problem.FieldError, len(faults))
	for i, f := range faults {
		fields[i] = problem.FieldError{Field: f.Field, Message: f.Message, Line: f.Line, Column: f.Column}
	}
	return problem.Invalid(fields...)
}

// answerWithRule answers with the rule as it is now, and its ETag.
func (s *Service) answerWithRule(c echo.Context, status int, id string) error {
	k, ok := s.rules.Get(id)
	if !ok {
		return fmt.Errorf("rule %s has gone", id) // rules never go
	}
	web.SetETag(c, web.ETag(k.Changes))
	return c.JSON(status, s.answerRule(k))
}

package fraud

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// ruleCursor ties cursors to the listing of rules, which goes by ID.
const ruleCursor = "rules"

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
	known := s.rules.list()
	known = slices.DeleteFunc(known, func(k knownRule) bool { return k.id <= after })
	next := ""
	if len(known) > limit {
		known = known[:limit]
		next = web.EncodeCursor(ruleCursor, known[limit-1].id)
	}
	items := make([]ruleAnswer, len(known))
	for i, k := range known {
		if items[i], err = s.answerRule(k); err != nil {
			return err
		}
		items[i].Cases = nil
	}
	return web.List(c, items, next)
}

// showRule is GET /v1/moderation/rules/{id}.
func (s *Service) showRule(c echo.Context) error {
	if err := s.catchUp(c.Request().Context()); err != nil {
		return err
	}
	known, ok := s.rules.get(c.Param("id"))
	if !ok {
		return problem.NotFound("there is no such rule")
	}
	a, err := s.answerRule(known)
	if err != nil {
		return err
	}
	web.SetETag(c, web.ETag(known.events))
	return c.JSON(http.StatusOK, a)
}

func (s *Service) answerRule(k knownRule) (ruleAnswer, error) {
	var r rule.Rule
	if err := json.Unmarshal(k.spec, &r); err != nil {
		return ruleAnswer{}, fmt.Errorf("read rule %s: %w", k.id, err)
	}
	r.Mode = k.mode
	return ruleAnswer{
		Rule: r, Version: k.version, DefinedAt: stamp(k.definedAt), DefinedBy: k.by,
		Hits: s.raiser.hitsOf(k.id), Flags: s.board.Counts(k.id),
	}, nil
}

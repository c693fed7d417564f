package fraud

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// versionCursor ties cursors to the listing of a rule's versions.
const versionCursor = "rule-versions"

// listRuleVersions is GET /v1/moderation/rules/{id}/versions, the latest first.
func (s *Service) listRuleVersions(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	k, err := s.readRule(c)
	if err != nil {
		return err
	}
	before := len(k.Versions) + 1
	if cursor != "" {
		if err := web.DecodeCursor(versionCursor+k.ID, cursor, &before); err != nil {
			return err
		}
	}
	items := []versionAnswer{}
	next := ""
	for n := min(before, len(k.Versions)+1) - 1; n > 0; n-- {
		if len(items) == limit {
			next = web.EncodeCursor(versionCursor+k.ID, n+1)
			break
		}
		items = append(items, answerVersion(k, n))
	}
	return web.List(c, items, next)
}

// diffAnswer is how two versions of a rule differ.
type diffAnswer struct {
	From    int                  `json:"from"`
	To      int                  `json:"to"`
	Diff    string               `json:"diff"`
	Changes []register.FieldDiff `json:"changes"`
}

// diffRule is GET /v1/moderation/rules/{id}/diff?from=&to=, numbers or hashes of
// versions: the current one and the one before, if left out.
func (s *Service) diffRule(c echo.Context) error {
	k, err := s.readRule(c)
	if err != nil {
		return err
	}
	to, errTo := k.Find(c.QueryParam("to"), len(k.Versions))
	from, errFrom := k.Find(c.QueryParam("from"), max(1, to-1))
	var faults []problem.FieldError
	if errFrom != nil {
		faults = append(faults, problem.Field("from", errFrom.Error()))
	}
	if errTo != nil {
		faults = append(faults, problem.Field("to", errTo.Error()))
	}
	if len(faults) > 0 {
		return problem.Invalid(faults...)
	}
	d, err := k.Diff(from, to)
	if err != nil {
		return problem.Conflict(err.Error())
	}
	return c.JSON(http.StatusOK, diffAnswer{From: from, To: to, Diff: d.Text, Changes: d.Fields})
}

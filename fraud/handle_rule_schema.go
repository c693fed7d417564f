package fraud

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/rule"
)

// serveRuleSchema answers with the JSON Schema of a rule.
func serveRuleSchema(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/schema+json", rule.Schema)
}

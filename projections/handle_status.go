package projections

import (
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/service/problem"
)

// stateBody is how the read models stand.
type stateBody struct {
	// Serving is the version that this instance answers from, and Versions those
	// that there are; neither where there are no versions.
	Serving  int             `json:"serving,omitempty"`
	Versions *versions.State `json:"versions,omitempty"`
}

// state answers with the versions of the read models.
func (s *Service) state(c echo.Context) error {
	var body stateBody
	if e := s.current.Load(); e != nil {
		body.Serving = e.version
	}
	if s.deps.Versions != nil {
		there, err := s.deps.Versions.State(c.Request().Context())
		if err != nil {
			return fmt.Errorf("%w: %w", problem.Unavailable("the versions of the read models cannot be read now; try again a little later", retryAfter), err)
		}
		body.Versions = &there
	}
	return c.JSON(http.StatusOK, body)
}

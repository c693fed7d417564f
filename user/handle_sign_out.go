package user

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/token"
)

// handleSignOut serves DELETE /v1/sessions/current. The session may have ended
// before, which is as well.
func (s *Service) handleSignOut(c echo.Context) error {
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	if err := s.vault.EndSession(ctx, caller.Session); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

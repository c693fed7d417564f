package user

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// handleMe serves GET /v1/me.
func (s *Service) handleMe(c echo.Context) error {
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	a, err := s.load(ctx, caller.Subject)
	if err != nil {
		return err
	}
	if a.Erased {
		return noSuchUser()
	}
	web.SetETag(c, web.ETag(a.Version))
	return c.JSON(http.StatusOK, answerAccount(a))
}

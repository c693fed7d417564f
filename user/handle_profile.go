package user

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// handleProfile serves GET /v1/users/{id}.
func (s *Service) handleProfile(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	a, err := s.load(c.Request().Context(), id)
	if err != nil {
		return err
	}
	if a.Erased {
		return noSuchUser()
	}
	return c.JSON(http.StatusOK, answerProfile(a, s.now()))
}

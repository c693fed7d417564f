package user

import (
	"net/http"

	"github.com/labstack/echo/v4"
)

// handleCase serves GET /internal/users/{id}: the account as a case shows it,
// erased ones included.
func (s *Service) handleCase(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	a, err := s.load(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answerCase(a))
}

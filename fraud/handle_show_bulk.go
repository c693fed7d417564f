package fraud

import (
	"errors"
	"net/http"

	"github.com/labstack/echo/v4"
)

// showBulk is GET /v1/moderation/bulk/{id}.
func (s *Service) showBulk(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	b, ok, err := s.readBulk(c.Request().Context(), id)
	if errors.Is(err, errOtherThing) || err == nil && !ok {
		return errNoBulk
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answerBulk(b, false))
}

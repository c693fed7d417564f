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
	ctx := c.Request().Context()
	b, ok, err := s.readBulk(ctx, id)
	if errors.Is(err, errOtherThing) || err == nil && !ok {
		return errNoBulk
	}
	if err == nil {
		err = s.openBulk(ctx, &b)
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answerBulk(b, false))
}

package fraud

import "github.com/labstack/echo/v4"

// showFlag is GET /v1/moderation/flags/{id}.
func (s *Service) showFlag(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	r, err := s.readFlag(c.Request().Context(), id)
	if err != nil {
		return err
	}
	return s.answerWithFlag(c, r)
}

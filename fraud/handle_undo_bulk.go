package fraud

import (
	"net/http"
	"strconv"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
)

type undoBody struct {
	Note string `json:"note"`
}

// undoBulk is POST /v1/moderation/bulk/{id}/undo. A body with a note may be left
// out.
func (s *Service) undoBulk(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body undoBody
	if err := bindOptional(c, &body); err != nil {
		return err
	}
	if utf8.RuneCountInString(body.Note) > MaxBulkNote {
		return problem.Invalid(problem.Field("note", "must be at most "+strconv.Itoa(MaxBulkNote)+" characters"))
	}
	b, err := s.undoAll(c.Request().Context(), id, caller(c), body.Note)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, answerBulk(b, false))
}

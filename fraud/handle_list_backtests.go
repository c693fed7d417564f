package fraud

import (
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/service/web"
)

// backtestCursor ties cursors to the listing of backtests.
const backtestCursor = "backtests"

// listBacktests is GET /v1/backtests, the newest first, without their reports.
func (s *Service) listBacktests(c echo.Context) error {
	limit, cursor, err := web.Page(c)
	if err != nil {
		return err
	}
	var after queue.Place
	if cursor != "" {
		if err := web.DecodeCursor(backtestCursor, cursor, &after); err != nil {
			return err
		}
	}
	if err := s.catchUp(c.Request().Context()); err != nil {
		return err
	}
	page, more := s.backtests.List(after, limit)
	items := make([]backtestAnswer, len(page))
	for i, b := range page {
		_, before, _ := s.backtests.Get(b.ID)
		items[i] = s.answerBacktest(b, before, nil)
	}
	next := ""
	if more != nil {
		next = web.EncodeCursor(backtestCursor, more)
	}
	return web.List(c, items, next)
}

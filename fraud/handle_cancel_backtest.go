package fraud

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/queue"
)

// cancelBacktest is DELETE /v1/backtests/{id}: 202 for one that is running, which
// ends within about a second, else 204. One that has ended is removed.
func (s *Service) cancelBacktest(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	was, err := s.changeBacktest(c.Request().Context(), id, func(b queue.Backtest) (string, any) {
		if b.State.Ended() {
			return events.BacktestRemoved, events.BacktestWithdrawal{By: caller(c)}
		}
		return events.BacktestCancelled, events.BacktestWithdrawal{By: caller(c)}
	})
	if err != nil {
		return err
	}
	if b, before, ok := s.backtests.Get(id); ok && was.State == queue.Running {
		return c.JSON(http.StatusAccepted, s.answerBacktest(b, before, nil))
	}
	return c.NoContent(http.StatusNoContent)
}

package fraud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/service/problem"
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

// changeBacktest appends the event that next makes of the backtest as it stands.
// If somebody else was quicker it starts over.
func (s *Service) changeBacktest(ctx context.Context, id uuid.UUID, next func(queue.Backtest) (string, any)) (queue.Backtest, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for range maxTries {
		b, _, err := s.readBacktestStream(ctx, id)
		if err != nil {
			return b, err
		}
		eventType, payload := next(b)
		data, err := json.Marshal(payload)
		if err != nil {
			return b, fmt.Errorf("backtest %s: %w", id, err)
		}
		_, err = s.deps.Log.Append(ctx, events.Event{
			ID: s.deps.NewID(), Type: eventType, Stream: id, Version: b.Version + 1, OccurredAt: s.deps.Clock(), Data: data,
		})
		switch {
		case err == nil:
			return b, s.catchUp(ctx)
		case !errors.Is(err, log.ErrConflict):
			return b, outOfReach(err)
		}
	}
	return queue.Backtest{}, problem.Conflict("the backtest keeps changing; ask again")
}

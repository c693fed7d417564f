package fraud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/service/problem"
)

// errNoBacktest is the 404 of a backtest that is not there any more.
var errNoBacktest = problem.NotFound("there is no such backtest; what came of one is kept for " + queue.Keep.String())

// backtestAnswer is a backtest as far as it has come.
type backtestAnswer struct {
	ID    uuid.UUID     `json:"id"`
	State queue.State   `json:"state"`
	Rules []queue.Tried `json:"rules"`
	Since *stamp        `json:"since,omitempty"`
	Until *stamp        `json:"until,omitempty"`
	// Labels is what precision and recall were asked for against.
	Labels      string    `json:"labels"`
	Sample      int       `json:"sample"`
	Curve       bool      `json:"curve"`
	Thresholds  []int     `json:"thresholds,omitempty"`
	RequestedAt stamp     `json:"requested_at"`
	RequestedBy uuid.UUID `json:"requested_by"`
	StartedAt   *stamp    `json:"started_at,omitempty"`
	FinishedAt  *stamp    `json:"finished_at,omitempty"`
	// Before is how many wait before it, while it is queued.
	Before   *int            `json:"before,omitempty"`
	Progress progressAnswer  `json:"progress"`
	Error    string          `json:"error,omitempty"`
	Report   json.RawMessage `json:"report,omitempty"`
}

// progressAnswer is how far it has come. Rate is events a second, and like
// ETASeconds null while it is not known.
type progressAnswer struct {
	Events     uint64   `json:"events"`
	Total      uint64   `json:"total"`
	Rate       *float64 `json:"rate"`
	ETASeconds *float64 `json:"eta_seconds"`
}

// showBacktest is GET /v1/backtests/{id}.
func (s *Service) showBacktest(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	b, report, err := s.readBacktestStream(c.Request().Context(), id)
	if err != nil {
		return err
	}
	// The register has it, too, unless it is gone: it knows who is before it.
	if err := s.catchUp(c.Request().Context()); err != nil {
		return err
	}
	_, before, ok := s.backtests.Get(id)
	if !ok {
		return errNoBacktest
	}
	return c.JSON(http.StatusOK, s.answerBacktest(b, before, report))
}

// readBacktestStream reads a backtest from the log as it stands.
func (s *Service) readBacktestStream(ctx context.Context, id uuid.UUID) (queue.Backtest, json.RawMessage, error) {
	stream, err := log.ReadStream(ctx, s.deps.Log, id)
	if err != nil {
		return queue.Backtest{}, nil, outOfReach(err)
	}
	b, _, report, err := queue.Read(stream)
	if errors.Is(err, queue.ErrUnknown) {
		return b, nil, errNoBacktest
	}
	return b, report, err
}

// outOfReach is unavailable in the words of backtests.
func outOfReach(err error) error {
	if _, down := errors.AsType[*problem.Problem](unavailable(err)); !down {
		return err
	}
	return fmt.Errorf("%w: %w", problem.Unavailable("backtests cannot be reached right now; look at /v1/backtests before you ask again", retryAfter), err)
}

// answerBacktest is a backtest in an answer. Of one that this instance works on it
// knows how far it has come just now, of others what they have last said.
func (s *Service) answerBacktest(b queue.Backtest, before int, report json.RawMessage) backtestAnswer {
	a := backtestAnswer{
		ID: b.ID, State: b.State, Rules: b.Rules, Labels: b.Asked.Against, Sample: b.Asked.Sample, Curve: b.Asked.Curve,
		Thresholds: b.Asked.Thresholds, RequestedAt: stamp(b.RequestedAt), RequestedBy: b.By, Error: b.Error, Report: report,
		Since: stampOrNull(orZero(b.Asked.Since)), Until: stampOrNull(orZero(b.Asked.Until)),
		StartedAt: stampOrNull(b.StartedAt), FinishedAt: stampOrNull(b.EndedAt),
	}
	if b.State == queue.Queued {
		a.Before = &before
	}
	done, total, at := b.Events, b.Total, b.BeatAt
	if b.State == queue.Running {
		if d, t, ok := s.worker.Progress(b.ID); ok {
			done, total, at = d, t, s.deps.Clock()
		}
	} else if b.State.Ended() {
		at = b.EndedAt
	}
	a.Progress = progressAnswer{Events: done, Total: total}
	if took := at.Sub(b.StartedAt).Seconds(); !b.StartedAt.IsZero() && took > 0 && done > 0 {
		rate := float64(done) / took
		left := float64(total-min(done, total)) / rate
		a.Progress.Rate, a.Progress.ETASeconds = &rate, &left
		if b.State.Ended() {
			a.Progress.ETASeconds = nil
		}
	}
	return a
}

func stampOrNull(t time.Time) *stamp {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

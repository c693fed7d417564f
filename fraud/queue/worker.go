package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Try does a backtest and returns its report as JSON. It tells how far it has
// come, never twice at once, and ends soon after ctx does.
type Try func(ctx context.Context, id uuid.UUID, r events.BacktestRequest, progress func(events, total uint64)) (json.RawMessage, error)

// Worker works on the backtests of a register, one at a time. All fields but
// Logger are needed.
type Worker struct {
	Register *Register
	// Log is the fraud log, and CatchUp brings the register up to its end.
	Log     *log.Log
	CatchUp func(context.Context) error
	Try     Try
	Clock   func() time.Time
	NewID   func() uuid.UUID
	// Instance tells this worker from all others, also from this process's next.
	Instance uuid.UUID
	Logger   *slog.Logger // slog.Default() if nil

	mu   sync.Mutex
	here *running // what it works on
}

// ErrFailed makes an error of Try one whose text the client gets to see.
var ErrFailed = errors.New("backtest failed")

// Run works until ctx ends, and gives back what it has not finished then.
func (w *Worker) Run(ctx context.Context) error {
	if w.Logger == nil {
		w.Logger = slog.Default()
	}
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for {
		if b, ok := w.Register.next(); ok {
			if err := w.take(ctx, b); err != nil && ctx.Err() == nil {
				w.Logger.WarnContext(ctx, "a backtest could not be worked on", "backtest", b.ID, "error", err)
			} else if err == nil {
				continue // there may be another
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-w.Register.changed:
		case <-look.C:
		}
	}
}

// take takes a backtest, works on it, and records what has come of it. An error
// says that the log did not take something: the register shows, sooner or later,
// what the log has.
func (w *Worker) take(ctx context.Context, b Backtest) error {
	if b.Starts >= MaxStarts {
		return w.giveUp(ctx, b)
	}
	r := &running{worker: w, Backtest: b}
	if err := r.append(ctx, events.BacktestStarted, events.BacktestStep{Instance: w.Instance}); err != nil {
		return w.settle(ctx, err)
	}
	w.show(r)
	defer w.show(nil)
	return w.settle(ctx, r.work(ctx))
}

// errLost says that the backtest was cancelled, or taken over by another.
var errLost = errors.New("the backtest is no longer this instance's")

// giveUp ends a backtest whose instances got lost.
func (w *Worker) giveUp(ctx context.Context, b Backtest) error {
	r := &running{worker: w, Backtest: b}
	why := fmt.Sprintf("the instances that worked on it were lost, %d times; try fewer rules, or a shorter period", b.Starts)
	return w.settle(ctx, r.append(ctx, events.BacktestFinished, events.BacktestEnd{Instance: w.Instance, Events: b.Events, Total: b.Total, Error: why}))
}

// settle makes nothing of a conflict, once the register knows what was quicker.
func (w *Worker) settle(ctx context.Context, err error) error {
	if errors.Is(err, log.ErrConflict) {
		return w.CatchUp(ctx)
	}
	return err
}

func (w *Worker) show(r *running) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.here = r
}

// Progress is how far the backtest has come of late, if this worker works on it.
func (w *Worker) Progress(id uuid.UUID) (done, total uint64, ok bool) {
	w.mu.Lock()
	r := w.here
	w.mu.Unlock()
	if r == nil || r.ID != id {
		return 0, 0, false
	}
	now := r.now()
	return now.Events, now.Total, true
}

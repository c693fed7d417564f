package queue

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// retryEvery is the pause before an append that the log did not take is repeated.
const retryEvery = time.Second

// running is a backtest that a worker works on. Its steps are appended one after
// the other.
type running struct {
	worker *Worker

	steps sync.Mutex // held while a step is appended
	Backtest

	mu          sync.Mutex
	done, total uint64
}

// now is the payload that says how far it has come.
func (r *running) now() events.BacktestStep {
	r.mu.Lock()
	defer r.mu.Unlock()
	return events.BacktestStep{Instance: r.worker.Instance, Events: r.done, Total: r.total}
}

func (r *running) reach(done, total uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done, r.total = done, total
}

// append appends the backtest's next event, and tries again with the same one while
// the log does not answer: it may be written or not.
func (r *running) append(ctx context.Context, eventType string, payload any) error {
	r.steps.Lock()
	defer r.steps.Unlock()
	e, err := r.event(r.worker.NewID(), eventType, r.worker.Clock(), payload)
	if err != nil {
		return err
	}
	for {
		err := r.tryAppend(ctx, e)
		if err == nil {
			r.Version++
			return nil
		}
		if !errors.Is(err, log.ErrUnavailable) && !errors.Is(err, log.ErrOverloaded) && !errors.Is(err, context.DeadlineExceeded) {
			return err
		}
		timer := time.NewTimer(retryEvery)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return err
		}
	}
}

// tryAppend sees it through even if ctx ends meanwhile: who takes a backtest and does
// not know it leaves it lying until it is stale.
func (r *running) tryAppend(ctx context.Context, e events.Event) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	_, err := r.worker.Log.Append(ctx, e)
	return err
}

// work does the backtest, says meanwhile that it is at it, and records the end.
func (r *running) work(ctx context.Context) error {
	report, err := r.workUntilLost(ctx)
	switch {
	case errors.Is(err, errLost):
		return nil
	case ctx.Err() != nil: // the process ends: another may take it at once
		at := r.now()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
		defer cancel()
		return r.append(ctx, events.BacktestReturned, at)
	}
	return r.append(ctx, events.BacktestFinished, r.end(ctx, report, err))
}

// workUntilLost does the backtest. It ends with errLost as soon as the instance is
// seen not to have it any more.
func (r *running) workUntilLost(ctx context.Context) (json.RawMessage, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer r.worker.Register.watch(r.ID, r.worker.Instance, func() { cancel(errLost) })()
	var beats sync.WaitGroup
	stop := make(chan struct{})
	beats.Go(func() { r.beat(ctx, cancel, stop) })
	report, err := r.try(ctx)
	close(stop)
	beats.Wait()
	if cause := context.Cause(ctx); errors.Is(cause, errLost) {
		return nil, cause
	}
	return report, err
}

// end is the payload of the end.
func (r *running) end(ctx context.Context, report json.RawMessage, err error) events.BacktestEnd {
	at := r.now()
	end := events.BacktestEnd{Instance: at.Instance, Events: at.Events, Total: at.Total, Report: report}
	switch {
	case errors.Is(err, ErrFailed):
		end.Error = err.Error()
	case err != nil:
		r.worker.Logger.ErrorContext(ctx, "a backtest failed", "backtest", r.ID, "error", err)
		end.Error = "the logs could not be read to their end; ask for it again"
	}
	return end
}

// try reads the request and does it.
func (r *running) try(ctx context.Context) (json.RawMessage, error) {
	stream, err := log.ReadStream(ctx, r.worker.Log, r.ID)
	if err != nil {
		return nil, err
	}
	_, request, _, err := Read(stream)
	if err != nil {
		return nil, err
	}
	return r.worker.Try(ctx, r.ID, request, r.reach)
}

// beat says every BeatEvery that the instance is at it. Whoever was quicker with
// the next version has the backtest now.
func (r *running) beat(ctx context.Context, cancel context.CancelCauseFunc, stop <-chan struct{}) {
	tick := time.NewTicker(BeatEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-stop:
			return
		case <-tick.C:
		}
		at := r.now()
		if err := r.append(ctx, events.BacktestProgressed, at); errors.Is(err, log.ErrConflict) {
			cancel(errLost)
			return
		}
	}
}

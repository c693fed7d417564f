package fraud

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"runtime"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/queue"
)

// maxReport bounds a report in bytes, so that the event that holds it fits.
const maxReport = events.MaxData - 8<<10

// tryBacktest does a backtest that was asked for. It takes half of the cores at most: the
// rest is for what is live.
func (s *Service) tryBacktest(ctx context.Context, id uuid.UUID, r events.BacktestRequest, progress func(done, total uint64)) (json.RawMessage, error) {
	rules, err := queue.Rules(r)
	if err != nil {
		return nil, err
	}
	for _, one := range rules {
		if err := one.Validate(); err != nil { // it was asked for from another build
			return nil, fmt.Errorf("%w: rule %s: %w", queue.ErrFailed, one.ID, err)
		}
	}
	o := backtest.Options{
		Since: orZero(r.Since), Until: orZero(r.Until), Workers: max(1, runtime.GOMAXPROCS(0)/2),
		Sample: r.Sample, Seed: binary.BigEndian.Uint64(id[8:]), Against: backtest.Against(r.Against),
		Cuts: s.deps.Log, Curve: r.Curve, Thresholds: r.Thresholds,
		Progress: func(p backtest.Progress) { progress(p.Events, p.Total) },
	}
	if r.Sample == 0 {
		o.Sample = -1 // none was asked for
	}
	if s.deps.Labels != nil {
		o.Labels = s.deps.Labels.All(ctx)
	}
	if o.Record, err = backtest.ReadRecord(ctx, s.deps.Log, o.Since, o.Until); err != nil {
		return nil, err
	}
	report, err := backtest.Run(ctx, s.deps.Activity, rules, o)
	if err != nil {
		return nil, err
	}
	for i := range report.Rules {
		report.Rules[i].Flags = nil // the sample says what there is to see
	}
	return report.Fit(maxReport)
}

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// clocked returns how much was done in a second.
func clocked(do func() (n int, err error)) (perSecond float64, err error) {
	begin := time.Now()
	n, err := do()
	if err != nil {
		return 0, err
	}
	return float64(n) / time.Since(begin).Seconds(), nil
}

// loop has so many callers call again and again, until the time is over and each
// has had its last answer. It returns how much all of them did in a second. The
// first error ends it.
func loop(ctx context.Context, callers int, d time.Duration, call func(ctx context.Context, caller int) (n int, err error)) (perSecond float64, err error) {
	return clocked(func() (int, error) {
		until := time.Now().Add(d)
		var done atomic.Int64
		err := each(ctx, callers, func(ctx context.Context, caller int) error {
			for first := true; first || time.Now().Before(until); first = false {
				n, err := call(ctx, caller)
				if err != nil {
					return err
				}
				done.Add(int64(n))
			}
			return nil
		})
		return int(done.Load()), err
	})
}

// each runs n calls side by side and returns the first error, which cancels the
// others, once all have returned.
func each(ctx context.Context, n int, do func(ctx context.Context, i int) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			if err := do(ctx, i); err != nil {
				cancel(err)
			}
		})
	}
	calls.Wait()
	return context.Cause(ctx)
}

// side measures one side of a work: how much is done in a second.
type side func(ctx context.Context) (perSecond float64, err error)

// alternate is the turn of a work of one figure: ours, then the limit, which is nil
// if there is none.
func alternate(ours, limit side) turn {
	return func(ctx context.Context) ([]Pair, error) {
		var pair Pair
		var err error
		if pair.Ours, err = ours(ctx); err == nil && limit != nil {
			pair.Limit, err = limit(ctx)
		}
		return []Pair{pair}, err
	}
}

package backtest

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// listener is told what happens in one partition.
type listener interface {
	// wants says whether the event is to be worked through at all.
	wants(e *events.Recorded) bool
	// act is of an event within the period.
	act(e *events.Recorded)
	// hit is of the rule with that index; counts says whether it is within the
	// period.
	hit(rule int, h engine.Hit, counts bool)
}

// sweep works the rules through all partitions, so many at a time, each with a
// listener of its own. The first error ends the others.
func (b *backtest) sweep(ctx context.Context, rules []rule.Rule, listeners func(partition int) listener) ([]engine.Stats, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stats := make([]engine.Stats, len(b.heads))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(b.Workers, len(b.heads)) {
		wg.Go(func() {
			for p := range next {
				var err error
				if stats[p], err = b.sweepPartition(ctx, p, rules, listeners(p)); err != nil {
					cancel(err)
				}
			}
		})
	}
	for p := range b.heads {
		next <- p
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return stats, nil
}

// sweepPartition works through a partition up to its head. A panic is an error: a
// rule that is only tried must not end the process that tries it.
func (b *backtest) sweepPartition(ctx context.Context, partition int, rules []rule.Rule, to listener) (_ engine.Stats, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in partition %d: %v\n%s", partition, v, debug.Stack())
		}
	}()
	if err := ctx.Err(); err != nil {
		return engine.Stats{}, err
	}
	g, err := engine.NewWithUsers(b.users, rules)
	if err != nil {
		return engine.Stats{}, err
	}
	head, told := b.heads[partition], uint64(0)
	if head == 0 {
		return g.Stats(), nil
	}
	var hits []engine.Hit
	for c, err := range b.log.Read(ctx, partition, 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return engine.Stats{}, err
		}
		for e := range c.Events() {
			if e.Sequence > head {
				break
			}
			if !to.wants(&e) {
				continue
			}
			hits = g.Process(&e, hits[:0])
			at, ok := g.At()
			counts := ok && b.counts(at)
			if counts {
				to.act(&e)
			}
			for _, h := range hits {
				to.hit(slices.Index(g.Rules(), h.Rule), h, counts)
			}
		}
		if done := min(c.Last(), head); done-told >= progressEvery || done == head {
			b.progress.add(done - told)
			told = done
		}
		if told == head {
			break
		}
	}
	return g.Stats(), nil
}

// counts says whether a time is within the period.
func (b *backtest) counts(at time.Time) bool {
	return (b.Since.IsZero() || !at.Before(b.Since)) && (b.Until.IsZero() || at.Before(b.Until))
}

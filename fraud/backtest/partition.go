package backtest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// partitionRun is what came of one partition.
type partitionRun struct {
	stats engine.Stats
	// events are the activities within the period, by kind.
	events map[rule.Kind]uint64
	// labelled are the users with a label who did something within the period.
	labelled map[uuid.UUID]struct{}
	rules    []ruleRun // in the rules' order
}

// ruleRun is what came of one rule in one partition.
type ruleRun struct {
	hits  uint64
	users map[uuid.UUID]struct{}
	// first holds, of the hits, those that come first in the report's order.
	first []engine.Hit
}

func (r *ruleRun) add(h engine.Hit, sample int) {
	r.hits++
	r.users[h.User] = struct{}{}
	if sample == 0 {
		return
	}
	if r.first = append(r.first, h); len(r.first) >= 2*sample {
		r.first = firstOf(r.first, sample)
	}
}

// firstOf sorts hits by time, then by place in the log, and keeps so many.
func firstOf(hits []engine.Hit, most int) []engine.Hit {
	slices.SortFunc(hits, func(a, b engine.Hit) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Position.Partition, b.Position.Partition),
			cmp.Compare(a.Position.Sequence, b.Position.Sequence))
	})
	return hits[:min(most, len(hits))]
}

// runPartitions works through all partitions, so many at a time. The first error
// ends the others.
func (b *backtest) runPartitions(ctx context.Context) ([]partitionRun, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	runs := make([]partitionRun, len(b.heads))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(b.Workers, len(b.heads)) {
		wg.Go(func() {
			for p := range next {
				var err error
				if runs[p], err = b.runPartition(ctx, p); err != nil {
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
	return runs, nil
}

// runPartition works through a partition up to its head.
func (b *backtest) runPartition(ctx context.Context, partition int) (partitionRun, error) {
	g, err := engine.New(b.rules)
	if err != nil {
		return partitionRun{}, err
	}
	run := partitionRun{
		events: make(map[rule.Kind]uint64), labelled: make(map[uuid.UUID]struct{}),
		rules: make([]ruleRun, len(b.rules)),
	}
	for i := range run.rules {
		run.rules[i].users = make(map[uuid.UUID]struct{})
	}
	head, told := b.heads[partition], uint64(0)
	if head == 0 {
		return run, nil
	}
	var hits []engine.Hit
	for c, err := range b.log.Read(ctx, partition, 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return partitionRun{}, err
		}
		for e := range c.Events() {
			if e.Sequence > head {
				break
			}
			hits = g.Process(&e, hits[:0])
			at, ok := g.At()
			if !ok || !b.counts(at) {
				continue
			}
			run.events[rule.KindOf(e.Type)]++
			if b.labelled[e.Stream] {
				run.labelled[e.Stream] = struct{}{}
			}
			for _, h := range hits {
				run.rules[slices.Index(g.Rules(), h.Rule)].add(h, b.Sample)
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
	run.stats = g.Stats()
	return run, nil
}

// counts says whether a time is within the period.
func (b *backtest) counts(at time.Time) bool {
	return (b.Since.IsZero() || !at.Before(b.Since)) && (b.Until.IsZero() || at.Before(b.Until))
}

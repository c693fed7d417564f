package backtest

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/order"
	"github.com/meet5/backend/fraud/rule"
)

// listener is told what happens in one partition, or in all.
type listener interface {
	// wants says whether the event is to be worked through at all.
	wants(e *events.Recorded) bool
	// act is of an event within the period.
	act(e *events.Recorded)
	// hit is of the rule with that index; counts says whether it is within the
	// period.
	hit(rule int, h engine.Hit, counts bool)
}

// sweep works the rules through all partitions, so many at a time, each with a listener
// of its own. Those that need the one order of all are worked through that, beside the
// others, with the last listener, which hears of no act. If nobody needs the acts,
// partitions without a rule are left out. The first error ends the others.
func (b *backtest) sweep(ctx context.Context, rules []rule.Rule, acts bool, listeners func(n int) listener) ([]engine.Stats, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	byActor, ordered := engine.Split(rules)
	stats := make([]engine.Stats, len(b.heads)+1)
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(b.Workers, len(stats)) {
		wg.Go(func() {
			for n := range next {
				s := &sweeper{backtest: b, rules: rules, to: listeners(n)}
				var err error
				if n == len(b.heads) {
					stats[n], err = s.guard(ctx, "the order of all partitions", func() error { return s.all(ctx, ordered) })
				} else {
					stats[n], err = s.guard(ctx, fmt.Sprintf("partition %d", n), func() error { return s.partition(ctx, n, byActor) })
				}
				if err != nil {
					cancel(err)
				}
			}
		})
	}
	if len(ordered) > 0 {
		next <- len(b.heads) // it takes longest
	}
	if acts || len(byActor) > 0 {
		for p := range b.heads {
			next <- p
		}
	}
	close(next)
	wg.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return stats, nil
}

// sweeper works rules through a partition, or all of them.
type sweeper struct {
	*backtest
	rules  []rule.Rule // of the sweep
	to     listener
	engine *engine.Engine
	number []int // by rule of the engine, its index in the sweep's
	hits   []engine.Hit
	acts   bool
	done   uint64 // events that progress has not been told of
}

// guard calls work. A panic is an error: a rule that is only tried must not end the
// process that tries it.
func (s *sweeper) guard(ctx context.Context, where string, work func() error) (_ engine.Stats, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic in %s: %v\n%s", where, v, debug.Stack())
		}
	}()
	if err := ctx.Err(); err != nil {
		return engine.Stats{}, err
	}
	if err := work(); err != nil {
		return engine.Stats{}, err
	}
	s.progress.add(s.done)
	return s.engine.Stats(), nil
}

func (s *sweeper) use(g *engine.Engine) {
	s.engine = g
	for _, r := range g.Rules() {
		s.number = append(s.number, slices.IndexFunc(s.rules, func(of rule.Rule) bool { return of.ID == r.ID }))
	}
}

// partition works rules through a partition up to its head.
func (s *sweeper) partition(ctx context.Context, n int, rules []rule.Rule) error {
	g, err := engine.NewByActor(s.users, rules)
	if err != nil {
		return err
	}
	s.use(g)
	s.acts = true
	head := s.heads[n]
	if head == 0 {
		return nil
	}
	for c, err := range s.log.Read(ctx, n, 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		for e := range c.Events() {
			if e.Sequence > head {
				break
			}
			s.process(&e)
		}
		if c.Last() >= head {
			break
		}
	}
	return nil
}

// all works rules through the one order of all partitions.
func (s *sweeper) all(ctx context.Context, rules []rule.Rule) error {
	g, err := engine.NewOrdered(s.users, rules, len(s.heads))
	if err != nil {
		return err
	}
	s.use(g)
	for e, err := range s.inOrder(ctx) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		s.process(&e)
	}
	return nil
}

func (s *sweeper) process(e *events.Recorded) {
	if s.done++; s.done == progressEvery {
		s.progress.add(s.done)
		s.done = 0
	}
	if !s.to.wants(e) {
		return
	}
	s.hits = s.engine.Process(e, s.hits[:0])
	at, ok := s.engine.At()
	counts := ok && s.counts(at)
	if counts && s.acts {
		s.to.act(e)
	}
	for _, h := range s.hits {
		s.to.hit(s.number[slices.Index(s.engine.Rules(), h.Rule)], h, counts)
	}
}

// inOrder is all events in the order that the cuts on record give.
func (b *backtest) inOrder(ctx context.Context) iter.Seq2[events.Recorded, error] {
	if b.Cuts != nil {
		return order.All(ctx, b.log, b.Cuts, b.heads)
	}
	return func(yield func(events.Recorded, error) bool) {
		r := order.NewReader(ctx, b.log)
		defer r.Close()
		r.To(b.heads)(yield)
	}
}

// counts says whether a time is within the period.
func (b *backtest) counts(at time.Time) bool {
	return (b.Since.IsZero() || !at.Before(b.Since)) && (b.Until.IsZero() || at.Before(b.Until))
}

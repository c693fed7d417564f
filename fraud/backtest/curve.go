package backtest

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// MaxThresholds is how many thresholds a rule's curve has at most.
	MaxThresholds = 32
	// rungsAtOnce is how many of them are tried in one pass, which bounds what the
	// engine keeps of a user.
	rungsAtOnce = 8
)

// Ladder is the thresholds that a rule's curve has if none are given: at most
// MaxThresholds, from 1 to rule.MaxThreshold, each about 1.36 times the one below,
// and the rule's own among them.
func Ladder(own int) []int {
	const steps = MaxThresholds - 1 // the own is one more
	ladder := []int{own}
	for i := range steps {
		ladder = append(ladder, int(math.Round(math.Pow(rule.MaxThreshold, float64(i)/(steps-1)))))
	}
	slices.Sort(ladder)
	return slices.Compact(ladder)
}

// CheckThresholds says what is wrong with thresholds for a curve: they must be at
// most MaxThresholds, from 1 to rule.MaxThreshold, ascending.
func CheckThresholds(thresholds []int) error {
	if len(thresholds) > MaxThresholds {
		return fmt.Errorf("%w: %d of them, at most %d are allowed", ErrBadCurve, len(thresholds), MaxThresholds)
	}
	for i, t := range thresholds {
		if t < 1 || t > rule.MaxThreshold {
			return fmt.Errorf("%w: %d, must be from 1 to %d", ErrBadCurve, t, rule.MaxThreshold)
		}
		if i > 0 && t <= thresholds[i-1] {
			return fmt.Errorf("%w: %d comes after %d, they must ascend", ErrBadCurve, t, thresholds[i-1])
		}
	}
	return nil
}

// ladder is one rule's thresholds, ascending, and how many hits each had.
type ladder struct {
	rungs []rule.Rule
	hits  []uint64
}

// ladder makes a rule's ladder. Not every aggregate takes every threshold.
func (b *backtest) ladder(r rule.Rule) (l ladder) {
	thresholds := b.Thresholds
	if len(thresholds) == 0 {
		thresholds = Ladder(r.Threshold)
	}
	r.Cases = nil // they are about the rule's own threshold
	for n, t := range thresholds {
		r.ID, r.Threshold = fmt.Sprintf("rung-%d", n), t
		if r.Validate() == nil {
			l.rungs = append(l.rungs, r)
		}
	}
	l.hits = make([]uint64, len(l.rungs))
	return l
}

// passes is how many the ladder takes at most.
func (l ladder) passes() uint64 { return uint64((len(l.rungs) + rungsAtOnce - 1) / rungsAtOnce) } //nolint:gosec // small

// nested says whether who comes up to a threshold has come up to all lower ones, by
// what they did alone. The reading both is not nested: with a lower threshold it
// remembers fewer targets.
func nested(r rule.Rule) bool {
	return !r.Ordered() &&
		(r.Aggregate == rule.Count || r.Aggregate == rule.Distinct || r.Aggregate == rule.PairedDistinct && r.Reading == rule.Each)
}

// climb tries each rule with other thresholds, one rule after the other and some
// thresholds at a time, from the lowest up. If they are nested, only those who have
// come up to the highest threshold of one pass are looked at in the next. Of a user
// only the highest threshold reached is kept.
func (b *backtest) climb(ctx context.Context, ladders []ladder) error {
	for i, l := range ladders {
		var below []*climber // of the pass before
		for from := 0; from < len(l.rungs); from += rungsAtOnce {
			if below != nil && nested(b.rules[i]) && !slices.ContainsFunc(below, func(c *climber) bool { return len(c.top) > 0 }) {
				b.skip(l.passes() - uint64(from/rungsAtOnce)) //nolint:gosec // small
				break
			}
			rungs := l.rungs[from:min(from+rungsAtOnce, len(l.rungs))]
			climbers := make([]*climber, len(b.heads)+1)
			for p := range climbers {
				climbers[p] = &climber{crowd: b.crowd, rule: i, from: from, hits: make([]uint64, len(rungs)), top: make(map[uuid.UUID]struct{})}
				if below != nil && nested(b.rules[i]) {
					climbers[p].only = below[p].top
				}
			}
			if _, err := b.sweep(ctx, rungs, false, func(p int) listener { return climbers[p] }); err != nil {
				return err
			}
			for _, c := range climbers {
				for n, hits := range c.hits {
					l.hits[from+n] += hits
				}
			}
			below = climbers
		}
	}
	return nil
}

// skip tells the progress of passes for which there is no need.
func (b *backtest) skip(passes uint64) {
	var events uint64
	for _, head := range b.heads {
		events += head
	}
	b.progress.add(passes * events)
}

// climber notes how high users come on one rule's ladder, in one pass over one
// partition.
type climber struct {
	crowd *crowd
	rule  int
	from  int      // where on the ladder the pass begins
	hits  []uint64 // within the period, by rung of the pass
	// top are those who have ever come up to the pass's highest rung; only are
	// those who are looked at, all if it is nil.
	top, only map[uuid.UUID]struct{}
}

func (c *climber) wants(e *events.Recorded) bool {
	if c.only == nil {
		return true
	}
	_, ok := c.only[e.Stream]
	return ok
}

func (*climber) act(*events.Recorded) {}

func (c *climber) hit(rung int, h engine.Hit, counts bool) {
	if rung == len(c.hits)-1 {
		c.top[h.User] = struct{}{}
	}
	if counts {
		c.hits[rung]++
		c.crowd.reach(h.User, c.rule, uint8(c.from+rung+1)) //nolint:gosec // of at most MaxThresholds
	}
}

// Curve is how a rule does at other thresholds.
type Curve struct {
	// Points are by ascending threshold.
	Points []Point `json:"points"`
	Quality
}

// Point is a curve's threshold.
type Point struct {
	Threshold int    `json:"threshold"`
	Hits      uint64 `json:"hits"`
	// Users are those whom the rule hits with this threshold, or a higher one.
	Users     int      `json:"users"`
	Precision *float64 `json:"precision,omitempty"`
	Recall    *float64 `json:"recall,omitempty"`
}

// curve is what came of a rule's ladder.
func (b *backtest) curve(i int, l ladder, all tally) *Curve {
	rungs := b.crowd.highest(i, len(l.rungs))
	c := &Curve{Points: make([]Point, len(l.rungs))}
	var reached tally
	steps := make([]tally, 0, len(l.rungs)) // from the highest threshold down
	for n := len(l.rungs) - 1; n >= 0; n-- {
		reached.merge(rungs[n+1])
		steps = append(steps, reached)
		c.Points[n] = Point{Threshold: l.rungs[n].Threshold, Hits: l.hits[n], Users: reached.users()}
		if b.known != nil {
			c.Points[n].Precision, c.Points[n].Recall = reached.precision(), reached.recall(all)
		}
	}
	if b.known != nil {
		c.Quality = quality(steps, all)
	}
	return c
}

package backtest

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// MaxThresholds is how many thresholds a rule's curve has at most.
const MaxThresholds = 32

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
	thresholds []int
	hits       []uint64
}

// climb tries each rule with other thresholds, one rule after the other: what an
// engine keeps for one rule at so many thresholds is enough at a time. Of a user
// only the highest threshold reached is kept.
func (b *backtest) climb(ctx context.Context) ([]ladder, error) {
	ladders := make([]ladder, len(b.rules))
	for i, r := range b.rules {
		thresholds := b.Thresholds
		if len(thresholds) == 0 {
			thresholds = Ladder(r.Threshold)
		}
		rungs := make([]rule.Rule, 0, len(thresholds))
		r.Cases = nil // they are about the rule's own threshold
		for n, t := range thresholds {
			r.ID, r.Threshold = fmt.Sprintf("rung-%d", n), t
			if r.Validate() == nil { // not every aggregate takes every threshold
				rungs = append(rungs, r)
				ladders[i].thresholds = append(ladders[i].thresholds, t)
			}
		}
		climbers := make([]*climber, len(b.heads))
		for p := range climbers {
			climbers[p] = &climber{crowd: b.crowd, rule: i, hits: make([]uint64, len(rungs))}
		}
		if _, err := b.sweep(ctx, rungs, func(p int) listener { return climbers[p] }); err != nil {
			return nil, err
		}
		ladders[i].hits = make([]uint64, len(rungs))
		for _, c := range climbers {
			for n, hits := range c.hits {
				ladders[i].hits[n] += hits
			}
		}
	}
	return ladders, nil
}

// climber notes how high users come on one rule's ladder, in one partition.
type climber struct {
	crowd *crowd
	rule  int
	hits  []uint64 // by rung
}

func (*climber) act(*events.Recorded) {}

func (c *climber) hit(rung int, h engine.Hit) {
	c.hits[rung]++
	c.crowd.reach(h.User, c.rule, uint8(rung+1)) //nolint:gosec // of at most MaxThresholds
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
func (b *backtest) curve(i int, l ladder) *Curve {
	var all tally
	rungs := make([]tally, len(l.thresholds)+1) // by the highest rung reached
	for user, rung := range b.crowd.highest(i) {
		v := b.verdict(user)
		all.add(v)
		rungs[rung].add(v)
	}
	c := &Curve{Points: make([]Point, len(l.thresholds))}
	var reached tally
	steps := make([]tally, 0, len(l.thresholds)) // from the highest threshold down
	for n := len(l.thresholds) - 1; n >= 0; n-- {
		reached.merge(rungs[n+1])
		steps = append(steps, reached)
		c.Points[n] = Point{Threshold: l.thresholds[n], Hits: l.hits[n], Users: reached.users()}
		if b.known != nil {
			c.Points[n].Precision, c.Points[n].Recall = reached.precision(), reached.recall(all)
		}
	}
	if b.known != nil {
		c.Quality = quality(steps, all)
	}
	return c
}

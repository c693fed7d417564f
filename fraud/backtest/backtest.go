// Package backtest tries rules on the history in an activity log, through the
// very engine that runs them live.
//
// It promises that
//   - a report follows from the logs, the rules and the options alone: partitions,
//     and beside them the one order of all that some rules need, are worked through
//     side by side, and the order of everything in the report is fixed all the same;
//   - the flags in it equal those that the rules would have raised live, byte for
//     byte;
//   - memory is bounded by the engine's state, the users and the samples, not by
//     the log's length. Of each user hit it keeps some 40 bytes a rule; with
//     precision and recall, some 60 bytes of each user who did something, and with
//     a curve two more a rule, whatever the number of thresholds. The engine's
//     state is that of the partitions under way and, while a curve is made, of one
//     rule at eight thresholds;
//   - it writes nothing, and ends soon after ctx does.
package backtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/order"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// DefaultSample is how many flags, and users of a kind, a report shows of each
	// rule.
	DefaultSample = 20
	// MaxSample bounds what may be asked for.
	MaxSample = 10_000
	// MaxRules is how many rules are tried at once.
	MaxRules = 100
	// progressEvery is after how many events of a partition progress is told.
	progressEvery = 10_000
)

// Options of a backtest. The zero value takes in all of history.
type Options struct {
	// Since and Until bound, by rule time, the events that are counted and the
	// hits that are reported, Since included; unbounded if zero. The others are
	// worked through all the same, so that the hits are those of the whole
	// history: a window may reach back behind Since.
	Since, Until time.Time
	// Workers is how many partitions are worked through at once; GOMAXPROCS if 0.
	Workers int
	// Sample bounds the flags and the users listed of each rule. DefaultSample if
	// 0, none if negative, at most MaxSample.
	Sample int
	// Seed decides which users make up the sample of those hit.
	Seed uint64
	// Record is what to compare with; nothing if it is zero.
	Record Record
	// Against says what precision and recall are measured against; Both if empty.
	Against Against
	// Cuts is the fraud log, whose cuts put the events of all partitions in the order in
	// which rules that need it are given them (see order). If it is nil all of history
	// is in one order of time, as it is for a rule that is the first to need it.
	Cuts log.Reader
	// Labels are the users of whom something bad is known from elsewhere; may be
	// nil.
	Labels iter.Seq2[labels.Label, error]
	// Curve has each rule tried with other thresholds, too, and the scores of all
	// rules together taken for one. It takes a pass over the log for every eight
	// thresholds of each rule.
	Curve bool
	// Thresholds are those of the curve, see CheckThresholds; Ladder's if empty.
	Thresholds []int
	// Progress is told how far it has come, never by two at once.
	Progress func(Progress)
}

// Progress is how far a backtest has come.
type Progress struct {
	// Events have been worked through, of Total: those that there were at its
	// beginning, once for each pass over them.
	Events uint64 `json:"events"`
	Total  uint64 `json:"total"`
}

// Errors of what is to be tried.
var (
	ErrNoRules  = errors.New("no rules to try")
	ErrTooMany  = fmt.Errorf("more than %d rules to try at once", MaxRules)
	ErrBadCurve = errors.New("bad thresholds")
)

// Run tries the rules on everything in the log up to the heads that its partitions
// have when it begins. A rule's mode does not matter. The error is ctx's, the
// log's, or says which rule is not valid.
func Run(ctx context.Context, activity log.Reader, rules []rule.Rule, o Options) (Report, error) {
	switch {
	case len(rules) == 0:
		return Report{}, ErrNoRules
	case len(rules) > MaxRules:
		return Report{}, ErrTooMany
	}
	if err := engine.Check(rules); err != nil { // before any work
		return Report{}, err
	}
	if err := errors.Join(rule.CheckCost(rules), CheckThresholds(o.Thresholds)); err != nil {
		return Report{}, err
	}
	o.complete()
	b := &backtest{Options: o, log: activity, rules: rules, users: engine.NewUsers()}
	report, err := b.run(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("backtest: %w", err)
	}
	return report, nil
}

// backtest is one that is under way.
type backtest struct {
	Options
	log      log.Reader
	rules    []rule.Rule
	users    *engine.Users
	heads    order.Cut
	known    *knowledge // nil if nothing is measured
	crowd    *crowd     // who did something within the period; nil if nobody asks
	progress reporter
}

func (b *backtest) run(ctx context.Context) (Report, error) {
	passes := uint64(1)
	if slices.ContainsFunc(b.rules, func(r rule.Rule) bool { return r.Ordered() || b.Record.Running[r.ID].Ordered() }) {
		passes++ // through the order of all
	}
	var ladders []ladder
	if b.Curve {
		for _, r := range b.rules {
			l := b.ladder(r)
			ladders, passes = append(ladders, l), passes+l.passes()
		}
	}
	b.progress.tell = b.Progress
	var err error
	if b.heads, err = order.Heads(ctx, b.log); err != nil {
		return Report{}, err
	}
	for _, head := range b.heads {
		b.progress.total += passes * head
	}
	if b.known, err = b.readKnowledge(ctx); err != nil {
		return Report{}, err
	}
	if b.known != nil || b.Curve {
		b.crowd = newCrowd(len(b.rules))
	}
	tried, err := b.tryRules(ctx)
	if err != nil {
		return Report{}, err
	}
	if err := b.climb(ctx, ladders); err != nil {
		return Report{}, err
	}
	return b.report(ctx, tried, ladders)
}

func (o *Options) complete() {
	if o.Workers <= 0 {
		o.Workers = runtime.GOMAXPROCS(0)
	}
	if o.Sample == 0 {
		o.Sample = DefaultSample
	}
	o.Sample = min(max(o.Sample, 0), MaxSample)
}

// reporter adds up the progress of all partitions.
type reporter struct {
	tell  func(Progress)
	total uint64
	done  atomic.Uint64
	mu    sync.Mutex
	told  uint64
}

func (r *reporter) add(n uint64) {
	if done := r.done.Add(n); r.tell != nil && n > 0 {
		r.mu.Lock()
		defer r.mu.Unlock()
		if done > r.told { // not back, when two come in the wrong order
			r.told = done
			r.tell(Progress{Events: done, Total: r.total})
		}
	}
}

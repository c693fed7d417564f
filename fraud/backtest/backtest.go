// Package backtest tries rules on the history in an activity log, through the
// very engine that runs them live.
//
// It promises that
//   - a report follows from the log, the rules and the options alone: partitions
//     are worked through side by side, and the order of everything in the report
//     is fixed all the same;
//   - the flags in it equal those that the rules would have raised live, byte for
//     byte;
//   - memory is bounded by the engine's state, the users hit and the samples, not
//     by the log's length;
//   - it reads and writes nothing else, and ends soon after ctx does.
package backtest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// DefaultSample is how many flags, and users of a kind, a report shows of each
	// rule.
	DefaultSample = 20
	// MaxSample bounds what may be asked for.
	MaxSample = 10_000
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
	// Sample bounds the flags and the users listed of each rule: the first ones.
	// DefaultSample if 0, none if negative, at most MaxSample.
	Sample int
	// Flagged are, by rule, the users with a flag on record, to compare with (see
	// flag.Board.Standing); if nil, nothing is compared.
	Flagged map[string][]uuid.UUID
	// Labels are the users of whom something bad is known, to measure precision
	// and recall against; without any, neither is measured.
	Labels iter.Seq2[labels.Label, error]
	// Progress is told how far it has come, never by two at once.
	Progress func(Progress)
}

// Progress is how far a backtest has come.
type Progress struct {
	// Events have been worked through, of Total there were at its beginning.
	Events uint64 `json:"events"`
	Total  uint64 `json:"total"`
}

// ErrNoRules says that there is nothing to try.
var ErrNoRules = errors.New("no rules to try")

// Run tries the rules on everything in the log up to the heads that its partitions
// have when it begins. A rule's mode does not matter. The error is ctx's, the
// log's, or says which rule is not valid.
func Run(ctx context.Context, activity log.Reader, rules []rule.Rule, o Options) (Report, error) {
	if len(rules) == 0 {
		return Report{}, ErrNoRules
	}
	if _, err := engine.New(rules); err != nil { // before any work
		return Report{}, err
	}
	o.complete()
	b := &backtest{Options: o, log: activity, rules: rules, heads: make([]uint64, activity.Partitions())}
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
	heads    []uint64
	labelled map[uuid.UUID]bool // nil if there are no labels
	progress reporter
}

func (b *backtest) run(ctx context.Context) (Report, error) {
	b.progress.tell = b.Progress
	for p := range b.heads {
		var err error
		if b.heads[p], err = b.log.Head(ctx, p); err != nil {
			return Report{}, err
		}
		b.progress.total += b.heads[p]
	}
	if err := b.readLabels(ctx); err != nil {
		return Report{}, fmt.Errorf("read labels: %w", err)
	}
	runs, err := b.runPartitions(ctx)
	if err != nil {
		return Report{}, err
	}
	return b.report(ctx, runs)
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

// readLabels notes which users have a label.
func (b *backtest) readLabels(ctx context.Context) error {
	if b.Labels == nil {
		return nil
	}
	for l, err := range b.Labels {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if b.labelled == nil {
			b.labelled = make(map[uuid.UUID]bool)
		}
		b.labelled[l.User] = true
	}
	return nil
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

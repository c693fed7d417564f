package backtest

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// tried is what came of all rules.
type tried struct {
	partitions []*partitionRun
	stats      []engine.Stats
	// running are, by tried rule, the version that runs and where in a run it is;
	// nil if none does, or the very one that is tried.
	running []*runningRule
}

type runningRule struct {
	rule.Rule
	at int
}

// partitionRun is what came of one partition.
type partitionRun struct {
	b *backtest
	// events are the activities within the period, by kind.
	events map[rule.Kind]uint64
	last   uuid.UUID // who acted last: the crowd need not hear of them again
	rules  []ruleRun // in the rules' order: those tried, then those that run
}

// ruleRun is what came of one rule in one partition.
type ruleRun struct {
	hits  uint64
	users map[uuid.UUID]struct{}
	// first holds, of the hits, those that come first in the report's order.
	first  []engine.Hit
	sample sample
}

// tryRules works the rules through the log, and beside them the versions of them
// that run.
func (b *backtest) tryRules(ctx context.Context) (tried, error) {
	t := tried{running: make([]*runningRule, len(b.rules))}
	rules := slices.Clone(b.rules)
	for i, r := range b.rules {
		runs, ok := b.Record.Running[r.ID]
		if !ok || runs.Version() == r.Version() {
			continue
		}
		t.running[i] = &runningRule{runs, len(rules)}
		runs.ID = spareID(rules)
		rules = append(rules, runs)
	}
	t.partitions = make([]*partitionRun, len(b.heads)+1)
	for p := range t.partitions {
		run := &partitionRun{b: b, events: make(map[rule.Kind]uint64), rules: make([]ruleRun, len(rules))}
		for i := range run.rules {
			run.rules[i] = ruleRun{users: make(map[uuid.UUID]struct{}), sample: newSample(b.Seed, b.Sample)}
		}
		t.partitions[p] = run
	}
	var err error
	if t.stats, err = b.sweep(ctx, rules, true, func(n int) listener { return t.partitions[n] }); err != nil {
		return t, err
	}
	// The events of the order of all are those of the partitions.
	last := &t.stats[len(t.stats)-1]
	*last = engine.Stats{Forgotten: last.Forgotten}
	return t, nil
}

// spareID is an ID that none of the rules has.
func spareID(rules []rule.Rule) string {
	for n := 0; ; n++ {
		id := fmt.Sprintf("running-%d", n)
		if !slices.ContainsFunc(rules, func(r rule.Rule) bool { return r.ID == id }) {
			return id
		}
	}
}

func (*partitionRun) wants(*events.Recorded) bool { return true }

func (p *partitionRun) act(e *events.Recorded) {
	p.events[rule.KindOf(e.Type)]++
	if p.b.crowd != nil && e.Stream != p.last {
		p.b.crowd.add(e.Stream)
		p.last = e.Stream
	}
}

func (p *partitionRun) hit(i int, h engine.Hit, counts bool) {
	if !counts {
		return
	}
	r := &p.rules[i]
	r.hits++
	r.users[h.User] = struct{}{}
	if i >= len(p.b.rules) {
		return // of a version that runs, only the users are of interest
	}
	if p.b.crowd != nil {
		p.b.crowd.add(h.User)
	}
	if p.b.Sample == 0 {
		return
	}
	r.sample.add(h)
	if r.first = append(r.first, h); len(r.first) >= 2*p.b.Sample {
		r.first = firstOf(r.first, p.b.Sample)
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

package fraud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/order"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

// orderedGroup names the checkpoint, in the fraud log, of the cut up to which flags of
// ordered rules have been raised.
const orderedGroup = "fraud-ordered-raised"

// ordered runs the rules that need the one order of all partitions over the activity log,
// cut by cut, and raises their flags. Cuts are made while there are such rules, and as
// far as a past version is still to raise flags.
//
// When other rules are to run it makes new engines and works through all cuts anew; of
// what it has done before it raises and counts nothing twice. Meanwhile flags of ordered
// rules wait.
type ordered struct {
	*raiser
	tip   *order.Tip
	every time.Duration // between cuts, at least

	// The rest up to mu is run's alone.
	program *program
	crew    crew // none while there is nothing to run
	reader  *order.Reader
	last    order.Recorded // worked through
	within  bool           // part of the cut behind it is, too
	pending []engine.Hit   // whose flags are yet to be raised, before anything else is done
	asked   kindCounts     // in the cut so far
	// worked and tallies say up to which cut each version has got its flags raised, and
	// its hits counted, by engines before these.
	worked  workedCuts
	tallies map[*tally]uint64
	warmAt  uint64         // the cut at which the tallies know their history
	raised  order.Recorded // the cut up to which flags have been raised for good
	savedAt time.Time

	mu    sync.Mutex
	at    orderedPlace
	moved chan struct{} // closed, and made anew, when it moves
}

// orderedPlace is how far the ordered rules have come.
type orderedPlace struct {
	informed uint64 // the revision of the rules
	cut      uint64
	idle     bool  // there is nothing to run
	err      error // why it stands still; nil if it does not
}

func newOrdered(r *raiser, every time.Duration) *ordered {
	return &ordered{
		raiser: r, tip: order.NewTip(), every: every, moved: make(chan struct{}),
		worked: make(workedCuts), tallies: make(map[*tally]uint64),
	}
}

// follow works through the cuts until ctx ends.
func (o *ordered) follow(ctx context.Context) error {
	raised, err := o.checkpoint(ctx)
	if err != nil {
		return nil //nolint:nilerr // ctx has ended
	}
	o.raised, o.savedAt = raised, o.clock()
	defer func() {
		if o.reader != nil {
			o.reader.Close()
		}
	}()
	for pause := time.Duration(0); ; {
		tip, moved := o.tip.Last()
		err := o.catchUpWithCuts(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			o.tell(err)
			pause = min(max(2*pause, 50*time.Millisecond), 5*time.Second)
			o.logger.WarnContext(ctx, "ordered rules stand still, trying again", "cut", o.last.Number, "error", err)
			sleep(ctx, pause)
			continue
		}
		pause = 0
		if o.last.Number < tip.Number && len(o.crew) > 0 {
			continue
		}
		if err := o.save(ctx, saveEvery); err != nil {
			o.logger.WarnContext(ctx, "up to where flags of ordered rules are raised cannot be saved", "error", err)
		}
		timer := time.NewTimer(saveEvery)
		select {
		case <-ctx.Done():
		case <-moved:
		case <-o.another:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// checkpoint reads up to which cut flags had been raised.
func (o *ordered) checkpoint(ctx context.Context) (order.Recorded, error) {
	for {
		c, err := o.checkpoints.Load(ctx, o.place())
		if err == nil && c.Sequence == 0 {
			return order.Recorded{}, nil
		}
		if err == nil {
			var raised order.Recorded
			if raised, err = order.At(ctx, o.fraud, c.Sequence); err == nil {
				return raised, nil
			}
		}
		o.tell(err)
		o.logger.WarnContext(ctx, "ordered rules cannot start yet, trying again", "error", err)
		if !sleep(ctx, time.Second) {
			return order.Recorded{}, ctx.Err()
		}
	}
}

func (o *ordered) place() subscription.Place {
	return subscription.Place{Group: orderedGroup, Log: o.fraud.Name(), Partition: events.PartitionOf(order.Stream, o.fraud.Partitions())}
}

// catchUpWithCuts works through all cuts on record, by the rules that are to run.
func (o *ordered) catchUpWithCuts(ctx context.Context) error {
	if err := o.adopt(ctx); err != nil || len(o.crew) == 0 {
		return err
	}
	for c, err := range order.After(ctx, o.fraud, o.last) {
		if err != nil {
			return err
		}
		if err := o.workThrough(ctx, c); err != nil {
			return err
		}
		if err := o.adopt(ctx); err != nil || o.last.Number != c.Number {
			return err // to begin anew
		}
	}
	return nil
}

// adopt takes over the program that is to run, between two cuts.
func (o *ordered) adopt(ctx context.Context) error {
	next := o.raiser.program.Load()
	if next == o.program || o.within {
		return nil
	}
	part := next.plan.part(true)
	if o.program == nil || o.program.plan.part(true).print() != part.print() {
		if err := o.begin(ctx, part); err != nil {
			return err
		}
	}
	o.program = next
	for _, t := range next.tallies {
		if t.rule.Ordered() && o.last.Number >= o.warmAt {
			t.warmed.Store(int64(len(o.lanes)))
		}
	}
	o.tell(nil)
	return nil
}

// begin makes engines for a part of a plan, which have nothing counted yet.
func (o *ordered) begin(ctx context.Context, part *plan) error {
	if o.program != nil {
		o.worked.add(o.program.plan.part(true), o.last.Number)
		for _, t := range o.program.tallies {
			if t.rule.Ordered() {
				o.tallies[t] = max(o.tallies[t], o.last.Number)
			}
		}
	}
	needed := func(r planned) uint64 {
		if slices.ContainsFunc(r.spans, func(s register.Span) bool { return !covers(o.raised.Through, s, o.activity.Partitions()) }) {
			return 1<<64 - 1
		}
		return 0
	}
	next, err := part.crew(needed, func(rules []rule.Rule) (*engine.Engine, error) {
		return engine.NewOrdered(o.users, rules, o.activity.Partitions())
	})
	if err != nil {
		return err
	}
	if len(part.rules) == 0 && len(next) == 1 {
		next = nil
	}
	if o.reader != nil {
		o.reader.Close()
	}
	tip, _ := o.tip.Last()
	o.crew, o.reader, o.last, o.warmAt = next, order.NewReader(ctx, o.activity), order.Recorded{}, tip.Number
	return nil
}

// covers says whether a cut has all of a span on this side.
func covers(c order.Cut, s register.Span, partitions int) bool {
	for p := range partitions {
		if s.End(p) > c.At(p) {
			return false
		}
	}
	return true
}

// workThrough works through the next cut. After an error it goes on where it stood.
func (o *ordered) workThrough(ctx context.Context, c order.Recorded) error {
	o.within = true
	if err := o.raisePending(ctx, c); err != nil {
		return err
	}
	for e, err := range o.reader.To(c.Through) {
		if err != nil {
			return err
		}
		o.count(&e, c)
		if err := o.raisePending(ctx, c); err != nil {
			return err
		}
	}
	for _, t := range o.program.tallies {
		if !t.rule.Ordered() {
			continue
		}
		if c.Number > o.tallies[t] {
			t.evaluations.Add(o.asked.of(t.rule.Events))
		}
		if c.Number == o.warmAt {
			t.warmed.Store(int64(len(o.lanes)))
		}
	}
	o.asked, o.last, o.within = kindCounts{}, c, false
	kept := o.crew[:1]
	for _, run := range o.crew[1:] {
		for _, spans := range run.spans {
			for _, s := range spans {
				if !covers(c.Through, s, o.activity.Partitions()) {
					kept = append(kept, run)
					break
				}
			}
		}
	}
	o.crew = kept
	o.tell(nil)
	return o.save(ctx, saveEvery)
}

// count runs the rules over the next event.
func (o *ordered) count(e *events.Recorded, c order.Recorded) {
	o.asked.add(e.Type)
	for n, run := range o.crew {
		for _, h := range run.engine.Process(e, nil) {
			if t := o.program.tallies[h.Rule.ID]; n == 0 && c.Number > o.tallies[t] {
				t.hit(h)
				o.figures.hit(h.Rule)
			}
			done := c.Number <= o.raised.Number || o.worked.holds(ruleVersion{h.Rule.ID, h.Rule.Version}, e.Partition, e.Sequence, c.Number)
			if run.raises(h) && !done {
				o.pending = append(o.pending, h)
			}
		}
	}
}

// raisePending raises the flags of pending hits.
func (o *ordered) raisePending(ctx context.Context, c order.Recorded) error {
	for len(o.pending) > 0 {
		h := o.pending[0]
		err := o.raiseIfLive(ctx, h)
		if errors.Is(err, errUnflaggable) { // however often it is tried
			o.logger.ErrorContext(ctx, "a hit of an ordered rule is left without a flag", "rule", h.Rule.ID, "user", h.User, "cut", c.Number, "error", err)
			err = nil
		}
		if err != nil {
			return fmt.Errorf("raise the flag of %s by %s: %w", h.User, h.Rule.ID, err)
		}
		o.pending = o.pending[1:]
	}
	o.pending = nil
	return nil
}

// save saves up to which cut flags have been raised, if that was not done in a while. It
// looks for changes of the rules first, as a lane does: one that is announced later takes
// effect behind this cut.
func (o *ordered) save(ctx context.Context, after time.Duration) error {
	if len(o.crew) == 0 || o.last.Number <= o.raised.Number || o.within || o.clock().Sub(o.savedAt) < after || o.catchUp(ctx) != nil {
		return nil
	}
	if _, raising := o.rules.Revision(); raising > o.program.plan.revision || len(o.rules.Announced()) > 0 {
		return nil
	}
	if err := o.checkpoints.Save(ctx, subscription.Checkpoint{Place: o.place(), Sequence: o.last.Sequence, At: o.clock()}); err != nil {
		return err
	}
	o.raised, o.savedAt = o.last, o.clock()
	return nil
}

// finish saves up to which cut flags have been raised, once follow has ended.
func (o *ordered) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	return o.save(ctx, 0)
}

// tell has others know how far it has come.
func (o *ordered) tell(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.at = orderedPlace{cut: o.last.Number, idle: len(o.crew) == 0, err: err}
	if o.program != nil {
		o.at.informed = o.program.plan.revision
	}
	close(o.moved)
	o.moved = make(chan struct{})
}

// stands says how far it has come, and gives a channel that is closed when that changes.
func (o *ordered) stands() (orderedPlace, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.at, o.moved
}

// wanted says whether there is something to make cuts for.
func (o *ordered) wanted() bool {
	p := o.raiser.program.Load()
	if p == nil {
		return false
	}
	part := p.plan.part(true)
	tip, _ := o.tip.Last()
	for _, r := range part.past {
		for _, s := range r.spans {
			if !covers(tip.Through, s, o.activity.Partitions()) {
				return true
			}
		}
	}
	return len(part.rules) > 0
}

// cut makes the next cut, behind all that is in the activity log now, unless there is
// nothing new there or another instance makes it.
func (o *ordered) cut(ctx context.Context) error {
	tip, _ := o.tip.Last()
	heads, err := order.Heads(ctx, o.activity)
	if err != nil {
		return err
	}
	e, ok, err := tip.Next(heads, o.clock())
	if err != nil || !ok {
		return err
	}
	if _, err := o.fraud.Append(ctx, e); err != nil && !errors.Is(err, log.ErrConflict) {
		return fmt.Errorf("put cut %d on record: %w", e.Version, err)
	}
	return nil
}

// makeCuts makes cuts until ctx ends. Where another instance has made one since it looked
// last, it waits for its turn.
func (o *ordered) makeCuts(ctx context.Context) error {
	tick := time.NewTicker(o.every)
	defer tick.Stop()
	var own uint64 // the last cut if it is this instance's
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		tip, _ := o.tip.Last()
		if turn := tip.Number <= own; !turn || !o.wanted() {
			own = tip.Number
			continue
		}
		if err := o.cut(ctx); err != nil && ctx.Err() == nil {
			o.logger.WarnContext(ctx, "the log cannot be cut yet, trying again", "error", err)
			continue
		}
		own = tip.Number + 1
	}
}

// reach returns once flags of ordered rules are raised for everything that is in the
// activity log now, by the rules as they are at a revision.
func (o *ordered) reach(ctx context.Context, revision uint64) error {
	heads, err := order.Heads(ctx, o.activity)
	if err != nil {
		return err
	}
	for {
		tip, cutMade := o.tip.Last()
		at, moved := o.stands()
		cut := tip.Through.Covers(heads) || !o.wanted()
		if at.informed >= revision && cut && (at.idle || at.cut >= tip.Number) {
			return nil
		}
		if !cut && at.informed >= revision {
			if err := o.cut(ctx); err != nil {
				return err
			}
			if err := o.catchUp(ctx); err != nil { // it is folded then
				return err
			}
			continue
		}
		select {
		case <-moved:
		case <-cutMade:
		case <-ctx.Done():
			return fmt.Errorf("wait for ordered rules: %w", ctx.Err())
		}
	}
}

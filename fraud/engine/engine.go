// Package engine runs fraud rules over the events of one partition of the
// activity log. Live, shadow and backtest are this one code.
//
// It promises that
//   - what it finds follows from the rules and the partition's events alone, not
//     from the wall clock, from how the events come in batches, nor from which
//     other rules run beside;
//   - an event counts once, however often it comes. It may come after events of
//     other actors that are behind it in the log, never after its own actor's;
//   - time is the event's (events.RuleTime), to the microsecond. Within a key, an
//     actor, it never runs backwards: an earlier time counts as the latest seen
//     among all of the actor's visits, likes and withdrawn likes, and is counted
//     in Stats.Backwards;
//   - a sliding window of length W at time t holds the events from t-W to t, both
//     included; a window since account creation those up to joining time plus W,
//     included;
//   - a rule hits on the upward crossing only: when an event brings the aggregate
//     up to the threshold. It can hit again for the same key once the aggregate
//     has fallen below, which time alone brings about and which is looked at just
//     before each event;
//   - state is exact and bounded by the threshold k, in entries of 16 bytes: count
//     keeps the last k events, distinct the k most recently seen targets, the reading
//     "each" twice that, ratio its volume, regularity k+1 events, sequence k pairs.
//     Where more than 32 are kept, up to 6 bytes more each, to find targets. Rules with
//     the same conditions keep an event once, however many of them count it;
//   - what waits for something else to happen cannot be bounded by k: a target that was
//     only visited may be liked later. "both", sequence and the condition on targets
//     remember 64 k targets of a kind, at most 16,384 (or 2 k). Within that they are
//     exact. Beyond, they forget the least recently seen, which can make them miss
//     something and never makes them count one too many, and Stats.Forgotten tells;
//   - lockstep remembers of each target the 256 accounts that met it last, and of each
//     account the 64 targets that it met last, as far as they are in the window of the
//     latest event there. Beyond, it forgets the one that was met first, which can make it
//     miss a group and never find one that there is not, and Stats.Forgotten tells;
//   - at an event of an account a at a target t, lockstep looks at the accounts of t and the
//     targets of a, and at which of those each of the accounts met since a's window began,
//     each by its own actor's time. If a and t are in the core of that (rule.Lockstep),
//     every account of the core hits, in the order of their IDs, unless a core that was
//     found held it up to a window's length ago;
//   - so lockstep goes by the order of events. A group of which every account met every
//     target is found in whatever order its events come. Of one with gaps an event finds
//     what is left without the accounts that did not meet its target and the targets that
//     its actor did not meet;
//   - a window that begins at a moment costs nothing once it is over: what was kept is
//     dropped, and nothing is kept later. In such a window a rule hits once.
//
// Per actor ever seen it keeps some 100 bytes, the latest time among them, and per actor
// with state some 16 more for each rule. An account's age goes by the joining time in
// its first activity. Times before 1970 and after 2112 count as those. Withdrawing a
// like does not undo it for a rule: who liked, liked.
package engine

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// Engine runs rules over one partition. It is not safe for concurrent use.
type Engine struct {
	rules  []*Rule
	byKind [kinds][]*Rule // those that listen to a kind
	users  *Users
	layout *layout
	// ordered says that the rules are (rule.Rule.Ordered), that keys are targets and the
	// events those of all partitions, whose numbers have so many bits; else they are those
	// of one, which partition is.
	ordered       bool
	partitionBits int
	partition     int

	// Rules of the aggregate lockstep keep what they know themselves. Their time is an
	// actor's latest, by the user's number.
	locksteps []*lockstep
	clocks    []int64

	index map[uuid.UUID]uint32 // into keys
	keys  []key
	// The keys' words, the entries of their journals, and the tables of those.
	words   slab
	entries arena[entry]
	tables  arena[uint16]

	last  uint64
	at    int64 // the rule time of the last event; earliest if it has none
	stats Stats

	// Of the event that is being processed: itself, what the journals said to it, by
	// their numbers, and the rules that it counts for.
	seen    sighting
	pushed  []pushed
	running []running
	places  []uint16 // reused, as is rests
	rests   []entry
}

// key is what is kept of one actor.
type key struct {
	latest int64  // time, in microseconds since 1970
	last   uint64 // the sequence of the last event
	first  int64  // time of the first activity
	joined int64  // when the account was made, as the first activity says
	words  uint32 // where they are in the arena, plus one; 0 while there is nothing to keep
}

// running is a rule that an event counts for, or comes to the gate of.
type running struct {
	*Rule
	from   int64
	passed bool
}

// kind is an activity's kind.
type kind uint8

const (
	visit kind = iota
	like
	unlike
	kinds
)

var kindNames = [kinds]rule.Kind{rule.Visit, rule.Like, rule.Unlike}

func kindOf(eventType string) (kind, bool) {
	switch eventType {
	case events.ProfileVisited:
		return visit, true
	case events.ProfileLiked:
		return like, true
	case events.LikeWithdrawn:
		return unlike, true
	}
	return 0, false
}

// Rule is a rule made ready to run.
type Rule struct {
	rule.Rule
	// Version is the rule's content hash.
	Version string

	window    window
	where     where
	gate      *gate // nil if every target will do
	aggregate aggregate
	state     int   // the word that says on which side of the threshold it is
	words     []int // its words, the state's among them
	cursors   []*cursor
	journals  []*journal // in which it counts, each once
	own       *journal   // of what passed the gate
	pairs     *journal   // which its aggregate fills itself
}

// What the word says.
const (
	below = iota
	above
	// spent: in a window that begins at a moment a rule hits once.
	spent
)

// Stats counts what an engine has seen.
type Stats struct {
	// Events are the events processed, of any type; Activities those of them
	// that are visits, likes and withdrawn likes.
	Events     uint64 `json:"events"`
	Activities uint64 `json:"activities"`
	// Unreadable are activities whose payload is malformed. They are skipped.
	Unreadable uint64 `json:"unreadable"`
	// Backwards are activities whose time was earlier than their actor's latest, or, in an
	// ordered engine, their target's.
	Backwards uint64 `json:"backwards"`
	// Forgotten are targets, and of lockstep accounts, that had to be let go; see the
	// package's promises.
	Forgotten uint64 `json:"forgotten"`
	// Unnumbered are activities that rules did not see, there being too many users.
	Unnumbered uint64 `json:"unnumbered"`
	// Keys are the actors seen, or, in an ordered engine, the targets.
	Keys uint64 `json:"keys"`
}

// New makes an engine that runs rules by actor over one partition, in their order. It
// fails if a rule is not valid or two have one ID.
func New(rules []rule.Rule) (*Engine, error) { return NewByActor(NewUsers(), rules) }

// NewByActor is New for engines that share the numbering of users, as those of one
// process should.
func NewByActor(users *Users, rules []rule.Rule) (*Engine, error) {
	return newEngine(users, rules, &Engine{})
}

// NewOrdered makes an engine that runs rules which need the one order of all partitions
// (rule.Rule.Ordered), of which there are so many. What it finds follows from the order in
// which it is given their events, too: that of package order.
func NewOrdered(users *Users, rules []rule.Rule, partitions int) (*Engine, error) {
	return newEngine(users, rules, &Engine{
		ordered: true, partitionBits: bits.Len(uint(partitions - 1)), //nolint:gosec // at least one
	})
}

// Check says whether rules can run, those by actor beside those that need the one order
// of all partitions, or why not.
func Check(rules []rule.Rule) error {
	for i, r := range rules {
		if slices.ContainsFunc(rules[:i], func(other rule.Rule) bool { return other.ID == r.ID }) {
			return fmt.Errorf("compile rule %s: another rule has this id", r.ID)
		}
	}
	byActor, ordered := Split(rules)
	if _, err := New(byActor); err != nil {
		return err
	}
	_, err := NewOrdered(NewUsers(), ordered, 1)
	return err
}

// Split parts rules into those of NewByActor and those of NewOrdered.
func Split(rules []rule.Rule) (byActor, ordered []rule.Rule) {
	for _, r := range rules {
		if r.Ordered() {
			ordered = append(ordered, r)
		} else {
			byActor = append(byActor, r)
		}
	}
	return byActor, ordered
}

func newEngine(users *Users, rules []rule.Rule, g *Engine) (*Engine, error) {
	g.index, g.at, g.users, g.layout = make(map[uuid.UUID]uint32), earliest, users, newLayout()
	for i, r := range rules {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("compile rule %s: %w", r.ID, err)
		}
		if r.Ordered() != g.ordered {
			return nil, fmt.Errorf("compile rule %s: %w", r.ID, wrongKind(g.ordered))
		}
		if slices.ContainsFunc(rules[:i], func(other rule.Rule) bool { return other.ID == r.ID }) {
			return nil, fmt.Errorf("compile rule %s: another rule has this id", r.ID)
		}
		one := g.layout.rule(r)
		g.rules = append(g.rules, one)
		if r.Aggregate == rule.InLockstep {
			g.locksteps = append(g.locksteps, newLockstep(one))
			continue
		}
		for k, name := range kindNames {
			if slices.Contains(r.Events, name) {
				g.byKind[k] = append(g.byKind[k], one)
			}
		}
	}
	g.pushed = make([]pushed, len(g.layout.journals))
	g.words.size = g.layout.length
	return g, nil
}

func wrongKind(ordered bool) error {
	if ordered {
		return errors.New("it looks at each actor for itself, and runs in the engine of one partition (NewByActor)")
	}
	return errors.New("it needs the one order of all partitions, and runs in the engine for that (NewOrdered)")
}

// Rules are the rules that run, in their order.
func (g *Engine) Rules() []*Rule { return g.rules }

// Stats are the counts so far.
func (g *Engine) Stats() Stats {
	s := g.stats
	s.Keys = uint64(len(g.keys))
	return s
}

// Last is the highest sequence of the events processed, of an engine over one
// partition.
func (g *Engine) Last() uint64 { return g.last }

// At is the rule time of the last event processed; false if it has none, being no
// activity or unreadable.
func (g *Engine) At() (at time.Time, ok bool) {
	if g.at == earliest {
		return time.Time{}, false
	}
	return time.UnixMicro(g.at).UTC(), true
}

// Process takes in an event, and appends to hits what it brings about: at most one hit
// a rule, in the rules' order, and after those, of each rule of the aggregate lockstep, a
// hit for each user. It is its actor's next, or, of an ordered engine, the next of all.
func (g *Engine) Process(e *events.Recorded, hits []Hit) []Hit {
	kind, ok := kindOf(e.Type)
	if !ok {
		if g.ordered || e.Sequence > g.last {
			g.last, g.at = e.Sequence, earliest
			g.stats.Events++
		}
		return hits
	}
	if !g.ordered {
		if k := g.key(e.Stream); e.Sequence > k.last {
			k.last = e.Sequence
		} else {
			return hits
		}
	}
	g.last, g.at = max(g.last, e.Sequence), earliest
	g.stats.Events++
	g.stats.Activities++
	a, err := events.ParseActivity(e.Data)
	if err != nil {
		g.stats.Unreadable++
		return hits
	}
	user, other := e.Stream, a.Target
	if g.ordered {
		user, other = other, user
	}
	k := g.key(user)
	g.seen = sighting{
		at: timeOf(e, a), place: g.placeOf(e.Position),
		kind: kind, joined: a.JoinedAt.UnixMicro(),
	}
	s := &g.seen
	switch {
	case k.latest == earliest:
		k.first, k.joined = s.at, s.joined
	case s.at < k.latest:
		g.stats.Backwards++
		s.at = k.latest
	}
	k.latest, g.at = s.at, s.at
	if !g.ordered {
		s.joined = k.joined
	}
	before := len(hits)
	hits = g.run(k, other, hits)
	for i := range hits[before:] {
		h := &hits[before+i]
		h.User, h.At, h.Position = user, time.UnixMicro(s.at).UTC(), e.Position
	}
	if len(g.locksteps) > 0 {
		hits = g.act(e, kind, a, hits)
	}
	return hits
}

// timeOf is an event's rule time as state keeps it.
func timeOf(e *events.Recorded, a events.Activity) int64 {
	return min(max(events.RuleTime(*e, a).UnixMicro(), 0), latestTime)
}

// placeOf is a position as entries hold it: the sequence, and before it the partition,
// if there are several.
func (g *Engine) placeOf(p events.Position) uint64 {
	if !g.ordered {
		g.partition = p.Partition
		return p.Sequence
	}
	return uint64(p.Partition)<<(placeBits-g.partitionBits) | p.Sequence //nolint:gosec // not negative
}

func (g *Engine) positionOf(place uint64) events.Position {
	if !g.ordered {
		return events.Position{Partition: g.partition, Sequence: place}
	}
	sequenceBits := placeBits - g.partitionBits
	return events.Position{Partition: int(place >> sequenceBits), Sequence: place & (1<<sequenceBits - 1)} //nolint:gosec // few
}

// run runs the rules over an activity.
func (g *Engine) run(k *key, other uuid.UUID, hits []Hit) []Hit {
	s := &g.seen
	g.running = g.running[:0]
	var w []uint32
	if k.words != 0 {
		w = g.words.block(k.words - 1)
	}
	dropped := false
	for _, r := range g.byKind[s.kind] {
		from, open := r.window.at(s.at, k.joined, k.first)
		if !open {
			dropped = w != nil && g.drop(r, w) || dropped
			continue
		}
		if !r.where.holds(s.at, s.joined) {
			continue
		}
		if w == nil {
			k.words = g.words.alloc() + 1
			w = g.words.block(k.words - 1)
		}
		if w[r.state] == spent {
			continue
		}
		if s.other == 0 && g.layout.users {
			if s.other = g.users.number(other); s.other == 0 {
				g.stats.Unnumbered++
				return hits
			}
		}
		passed := r.gate == nil || r.gate.passes(g, w, s, from)
		if passed && !r.aggregate.before(g, w, s, from) {
			w[r.state] = below
		}
		g.running = append(g.running, running{r, from, passed})
	}
	for _, r := range g.running {
		for _, j := range r.journals {
			if told := &g.pushed[j.number]; told.place != s.place && j != r.pairs && (r.passed || j != r.own) {
				told.place = s.place
				j.push(g, w, s, told)
			}
		}
	}
	for _, r := range g.running {
		if r.gate != nil {
			r.gate.take(g, w, s)
		}
		if !r.passed || !r.aggregate.after(g, w, s, r.from) || w[r.state] == above {
			continue
		}
		w[r.state] = above
		hits = append(hits, Hit{Rule: r.Rule, Observed: r.aggregate.observed(w), Evidence: g.evidence(r.aggregate, w)})
		if r.window.anchor != sliding {
			w[r.state] = spent
		}
	}
	for _, r := range g.running { // all of which have taken in the event by now
		if w[r.state] == spent {
			g.drop(r.Rule, w)
			w[r.state] = spent
		}
	}
	if dropped && len(g.running) == 0 && !slices.ContainsFunc(w, func(v uint32) bool { return v != 0 }) {
		g.words.release(k.words - 1)
		k.words = 0
	}
	return hits
}

// drop forgets what a rule has of a key, its window being over or of no more use, and
// says whether there was anything.
func (g *Engine) drop(r *Rule, w []uint32) (dropped bool) {
	for _, at := range r.words {
		dropped = dropped || w[at] != 0
		w[at] = 0
	}
	if dropped {
		for _, j := range r.journals {
			j.settle(g, w)
		}
	}
	return dropped
}

// evidence is the events that a hit rests on, in the order in which they happened.
func (g *Engine) evidence(a aggregate, w []uint32) []events.Position {
	g.rests = a.evidence(g, w, g.rests[:0])
	return g.positions(g.rests)
}

// key finds or makes what is kept of a user.
func (g *Engine) key(user uuid.UUID) *key {
	i, ok := g.index[user]
	if !ok {
		i = uint32(len(g.keys)) //nolint:gosec // memory ends before 2^32 actors of a partition
		g.index[user] = i
		g.keys = append(g.keys, key{latest: earliest})
	}
	return &g.keys[i]
}

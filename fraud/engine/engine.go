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
//   - a window that begins at a moment costs nothing once it is over: what was kept is
//     dropped, and nothing is kept later. In such a window a rule hits once.
//
// Per actor ever seen it keeps some 100 bytes, the latest time among them, and per actor
// with state some 16 more for each rule. An account's age goes by the joining time in
// its first activity. Times before 1970 and after 2112 count as those. Withdrawing a
// like does not undo it for a rule: who liked, liked.
package engine

import (
	"fmt"
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
	places  []uint16 // reused
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
	// Backwards are activities whose time was earlier than their actor's latest.
	Backwards uint64 `json:"backwards"`
	// Forgotten are targets that had to be let go; see the package's promises.
	Forgotten uint64 `json:"forgotten"`
	// Unnumbered are activities that rules did not see, there being too many users.
	Unnumbered uint64 `json:"unnumbered"`
	// Keys are the actors seen.
	Keys uint64 `json:"keys"`
}

// New makes an engine that runs the rules, in their order. It fails if a rule is
// not valid or two have one ID.
func New(rules []rule.Rule) (*Engine, error) { return NewWithUsers(NewUsers(), rules) }

// NewWithUsers is New for engines that share the numbering of users, as those of one
// process's partitions should.
func NewWithUsers(users *Users, rules []rule.Rule) (*Engine, error) {
	g := &Engine{index: make(map[uuid.UUID]uint32), at: earliest, users: users, layout: newLayout()}
	for i, r := range rules {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("compile rule %s: %w", r.ID, err)
		}
		if slices.ContainsFunc(rules[:i], func(other rule.Rule) bool { return other.ID == r.ID }) {
			return nil, fmt.Errorf("compile rule %s: another rule has this id", r.ID)
		}
		one := g.layout.rule(r)
		g.rules = append(g.rules, one)
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

// Rules are the rules that run, in their order.
func (g *Engine) Rules() []*Rule { return g.rules }

// Stats are the counts so far.
func (g *Engine) Stats() Stats {
	s := g.stats
	s.Keys = uint64(len(g.keys))
	return s
}

// Last is the highest sequence of the events processed.
func (g *Engine) Last() uint64 { return g.last }

// At is the rule time of the last event processed; false if it has none, being no
// activity or unreadable.
func (g *Engine) At() (at time.Time, ok bool) {
	if g.at == earliest {
		return time.Time{}, false
	}
	return time.UnixMicro(g.at).UTC(), true
}

// Process takes in an event, its actor's next, and appends to hits what it brings
// about: at most one hit a rule, in the rules' order.
func (g *Engine) Process(e *events.Recorded, hits []Hit) []Hit {
	kind, ok := kindOf(e.Type)
	if !ok {
		if e.Sequence > g.last {
			g.last, g.at = e.Sequence, earliest
			g.stats.Events++
		}
		return hits
	}
	k := g.key(e.Stream)
	if e.Sequence <= k.last {
		return hits
	}
	k.last = e.Sequence
	g.last, g.at = max(g.last, e.Sequence), earliest
	g.stats.Events++
	g.stats.Activities++
	a, err := events.ParseActivity(e.Data)
	if err != nil {
		g.stats.Unreadable++
		return hits
	}
	at := min(max(events.RuleTime(*e, a).UnixMicro(), 0), latestTime)
	switch {
	case k.latest == earliest:
		k.first, k.joined = at, a.JoinedAt.UnixMicro()
	case at < k.latest:
		g.stats.Backwards++
		at = k.latest
	}
	k.latest, g.at = at, at
	g.seen = sighting{at: at, sequence: e.Sequence, kind: kind}
	return g.run(k, e, a.Target, hits)
}

// run runs the rules over an activity.
func (g *Engine) run(k *key, e *events.Recorded, target uuid.UUID, hits []Hit) []Hit {
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
		if !r.where.holds(s.at, k.joined) {
			continue
		}
		if w == nil {
			k.words = g.words.alloc() + 1
			w = g.words.block(k.words - 1)
		}
		if w[r.state] == spent {
			continue
		}
		if s.target == 0 && g.layout.targets {
			if s.target = g.users.number(target); s.target == 0 {
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
			if told := &g.pushed[j.number]; told.sequence != s.sequence && j != r.pairs && (r.passed || j != r.own) {
				told.sequence = s.sequence
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
		hits = append(hits, Hit{
			Rule: r.Rule, User: e.Stream, At: time.UnixMicro(s.at).UTC(), Position: e.Position,
			Observed: r.aggregate.observed(w), Evidence: evidence(r.aggregate, g, w),
		})
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

// evidence is the sequences of a hit's events, in order.
func evidence(a aggregate, g *Engine, w []uint32) []uint64 {
	sequences := a.evidence(g, w, nil)
	slices.Sort(sequences)
	return sequences
}

// key finds or makes what is kept of an actor.
func (g *Engine) key(actor uuid.UUID) *key {
	i, ok := g.index[actor]
	if !ok {
		i = uint32(len(g.keys)) //nolint:gosec // memory ends before 2^32 actors of a partition
		g.index[actor] = i
		g.keys = append(g.keys, key{latest: earliest})
	}
	return &g.keys[i]
}

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
//   - state is exact and bounded by the threshold k. Per key and rule, count
//     keeps at most k moments of 16 bytes, distinct the k most recently seen
//     targets of about 50 bytes, and the reading "each" twice that.
//     A target that was only visited may be liked later, however many others were
//     visited in between, so "both" cannot be exact with k targets: it keeps up to
//     64 k targets visited and as many liked. Within that it is exact. Beyond, it
//     forgets the least recently seen, which can make it miss a pair and never
//     makes it count one too many, and Stats.Forgotten tells;
//   - a window since account creation costs an old account nothing: its state is
//     dropped when the window has passed, and none is made later.
//
// Per actor ever seen it keeps some 70 bytes, the latest time among them.
// Withdrawing a like does not undo it for a rule: who liked, liked.
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
	byKind [kinds][]int // the rules that listen to a kind

	index map[uuid.UUID]uint32 // into keys
	keys  []key
	last  uint64
	at    int64 // the rule time of the last event; earliest if it has none
	stats Stats
}

// key is what is kept of one actor.
type key struct {
	latest  int64   // time, in microseconds since 1970
	last    uint64  // the sequence of the last event
	tallies []tally // by rule; nil until a rule has something to keep
	held    int     // tallies that are not nil
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
	window  window
}

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
	// Forgotten are targets that the reading "both" had to let go.
	Forgotten uint64 `json:"forgotten"`
	// Keys are the actors seen.
	Keys uint64 `json:"keys"`
}

// New makes an engine that runs the rules, in their order. It fails if a rule is
// not valid or two have one ID.
func New(rules []rule.Rule) (*Engine, error) {
	g := &Engine{index: make(map[uuid.UUID]uint32), at: earliest}
	for i, r := range rules {
		if err := r.Validate(); err != nil {
			return nil, fmt.Errorf("compile rule %s: %w", r.ID, err)
		}
		if slices.ContainsFunc(rules[:i], func(other rule.Rule) bool { return other.ID == r.ID }) {
			return nil, fmt.Errorf("compile rule %s: another rule has this id", r.ID)
		}
		g.rules = append(g.rules, &Rule{Rule: r, Version: r.Version(), window: newWindow(r.Window)})
		for k, name := range kindNames {
			if slices.Contains(r.Events, name) {
				g.byKind[k] = append(g.byKind[k], i)
			}
		}
	}
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
	at := events.RuleTime(*e, a).UnixMicro()
	if at < k.latest {
		g.stats.Backwards++
		at = k.latest
	}
	k.latest, g.at = at, at
	seen := sighting{kind: kind, moment: moment{at: at, sequence: e.Sequence}, target: a.Target}
	joined := a.JoinedAt.UnixMicro()
	for _, i := range g.byKind[kind] {
		r := g.rules[i]
		from, open := r.window.at(at, joined)
		if !open {
			k.drop(i)
			continue
		}
		t := k.tally(i, g.rules)
		if !t.observe(r.Threshold, seen, from, &g.stats) {
			continue
		}
		hits = append(hits, Hit{
			Rule: r, User: e.Stream, At: time.UnixMicro(at).UTC(),
			Position: e.Position, Observed: r.Threshold, Evidence: evidence(t),
		})
		if r.window.anchored {
			k.tallies[i] = spent{} // the aggregate cannot fall any more
		}
	}
	return hits
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

func (k *key) tally(i int, rules []*Rule) tally {
	if k.tallies == nil {
		k.tallies = make([]tally, len(rules))
	}
	if k.tallies[i] == nil {
		k.tallies[i] = newTally(rules[i].Rule)
		k.held++
	}
	return k.tallies[i]
}

func (k *key) drop(i int) {
	if k.tallies == nil || k.tallies[i] == nil {
		return
	}
	k.tallies[i] = nil
	if k.held--; k.held == 0 {
		k.tallies = nil
	}
}

// Package trial runs the cases that a rule carries, through the very engine that
// runs it live.
package trial

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// Result is what came of one case.
type Result struct {
	Case string `json:"case"`
	// Want and Got are when the rule should have fired and when it did, counted
	// from the history's beginning.
	Want []rule.Duration `json:"want"`
	Got  []rule.Duration `json:"got"`
}

// Passed says whether the rule did as the case expects.
func (r Result) Passed() bool { return slices.Equal(r.Want, r.Got) }

// String is the result in a line.
func (r Result) String() string {
	if r.Passed() {
		return "ok    " + r.Case
	}
	return fmt.Sprintf("FAIL  %s: %s, expected it %s", r.Case, times("fired", r.Got), times("to fire", r.Want))
}

func times(verb string, at []rule.Duration) string {
	if len(at) == 0 {
		return verb + " never"
	}
	s := make([]string, len(at))
	for i := range at {
		s[i] = at[i].String()
	}
	return verb + " at " + strings.Join(s, ", ")
}

// Run runs the rule's cases in their order. It fails if the rule is not valid.
// The rule's mode does not matter.
func Run(r rule.Rule) ([]Result, error) {
	results := make([]Result, len(r.Cases))
	for i, c := range r.Cases {
		g, err := newEngine(r)
		if err != nil {
			return nil, err
		}
		results[i] = Result{Case: c.Name, Want: c.Expect.FiresAt, Got: run(g, r.Key, c)}
		if r.Aggregate == rule.InLockstep { // it hits several at once
			results[i].Got = slices.Compact(results[i].Got)
		}
	}
	return results, nil
}

func newEngine(r rule.Rule) (*engine.Engine, error) {
	if r.Ordered() {
		return engine.NewOrdered(engine.NewUsers(), []rule.Rule{r}, 1)
	}
	return engine.New([]rule.Rule{r})
}

// begin is when every history begins: at midnight in UTC, for rules that go by the
// hour.
var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func run(g *engine.Engine, by rule.Key, c rule.Case) (fired []rule.Duration) {
	var hits []engine.Hit
	for i, e := range happenings(c) {
		recorded := e.record(by, uint64(i+1), begin.Add(-time.Duration(c.AccountAge))) //nolint:gosec // an index
		hits = g.Process(&recorded, hits)
	}
	for _, h := range hits {
		fired = append(fired, rule.Duration(h.At.Sub(begin)))
	}
	return fired
}

// happening is one event of a history.
type happening struct {
	at            time.Duration
	kind          rule.Kind
	actor, target int
}

// happenings are the events of all steps by time; at one time, those of an
// earlier step come first.
func happenings(c rule.Case) (all []happening) {
	for _, s := range c.History {
		for n := range s.Events() {
			at, actor, target := s.Event(n)
			all = append(all, happening{at: time.Duration(at), kind: s.Type, actor: actor, target: target})
		}
	}
	slices.SortStableFunc(all, func(a, b happening) int { return cmp.Compare(a.at, b.at) })
	return all
}

// record makes the event: what a user does to the others, or, by target, what the others
// do to the one.
func (h happening) record(by rule.Key, sequence uint64, joined time.Time) events.Recorded {
	at := begin.Add(h.at)
	one, other := numbered('a', uint64(h.actor)), numbered('t', uint64(h.target)) //nolint:gosec // positive
	if by == rule.KeyTarget {
		one, other = other, one
	}
	return events.Recorded{
		Event: events.Event{
			ID: numbered('e', sequence), Type: h.kind.EventType(), Stream: one, OccurredAt: at,
			Data: events.Activity{Target: other, JoinedAt: joined}.AppendJSON(nil),
		},
		Position:   events.Position{Sequence: sequence},
		RecordedAt: at,
	}
}

// numbered is a UUID that stands for the n-th of a sort.
func numbered(sort byte, n uint64) (id uuid.UUID) {
	id[0] = sort
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

// Package flag is a flag as an aggregate: what has become of it, and what may
// become of it next. It is plain Go and folds from the fraud log.
//
// The states and the ways between them:
//
//	open ── confirm ──► confirmed ── appeal ──► appealed ── uphold ──► upheld
//	  │ │                   └──── overturn ────────┴── overturn ──► overturned
//	  │ └─ dismiss ──► dismissed
//	  └─── its time is over ──► expired
//
// An open flag may be escalated, once, and stays open; from then on it does not
// expire. Dismissed, upheld, overturned and expired are final, but that a decision
// which was part of a bulk operation can be undone: the flag is back where it stood
// before. Notes may be added in every state, and a flag can be assigned in all but
// the final ones.
package flag

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// State is where a flag stands.
type State string

// The states.
const (
	Open       State = "open"
	Confirmed  State = "confirmed"
	Dismissed  State = "dismissed"
	Appealed   State = "appealed"
	Upheld     State = "upheld"
	Overturned State = "overturned"
	Expired    State = "expired"
)

// States lists all states, in the order in which a flag may come to them.
func States() []State {
	return []State{Open, Confirmed, Dismissed, Appealed, Upheld, Overturned, Expired}
}

// Final says whether nothing can be decided any more.
func (s State) Final() bool {
	return s == Dismissed || s == Upheld || s == Overturned || s == Expired
}

// Stands says whether the flag holds good, or may yet turn out to.
func (s State) Stands() bool { return s != Dismissed && s != Overturned && s != Expired }

// Waiting says whether a moderator's decision is awaited.
func (s State) Waiting() bool { return s == Open || s == Appealed }

// Flag is a flag in summary. The zero value has not been raised.
type Flag struct {
	ID          uuid.UUID
	User        uuid.UUID
	Rule        string
	RuleVersion string
	Score       int
	Observed    float64
	Threshold   float64
	Evidence    int // the number of events that it rests on
	// RaisedAt is the rule time of the event that raised it.
	RaisedAt time.Time
	State    State
	// Escalated flags have been passed on by a moderator.
	Escalated bool
	// Assignee is the moderator who has taken it; uuid.Nil if nobody has.
	Assignee uuid.UUID
	// DecidedAt is when its latest decision was made; zero if there is none.
	DecidedAt time.Time
	// ExpiresAt is when it expires if it is still open and not escalated; zero if it
	// never does.
	ExpiresAt time.Time
	// SettledBy is the version of the event that brought it to where it stands.
	SettledBy uint64
	// Version counts its events.
	Version uint64
}

// ErrNotAllowed says that a flag's state does not allow something.
var ErrNotAllowed = errors.New("not allowed")

// Apply folds in the flag's next event. One that has been folded in already is
// skipped. The error says that the event cannot be read or does not follow.
func (f *Flag) Apply(e events.Recorded) error {
	if e.Version <= f.Version {
		return nil
	}
	if e.Version != f.Version+1 || (e.Version == 1) != (e.Type == events.FlagRaised) {
		return fmt.Errorf("flag %s: %s as event %d does not follow event %d", e.Stream, e.Type, e.Version, f.Version)
	}
	next := *f
	switch e.Type {
	case events.FlagRaised:
		raised, evidence, err := readRaised(e)
		if err != nil {
			return err
		}
		next = Flag{
			ID: e.Stream, User: raised.User, Rule: raised.Rule, RuleVersion: raised.RuleVersion, Score: raised.Score,
			Observed: raised.Observed, Threshold: raised.Threshold, Evidence: evidence,
			RaisedAt: e.OccurredAt, State: Open, SettledBy: e.Version,
		}
		if raised.ExpiresAt != nil {
			next.ExpiresAt = *raised.ExpiresAt
		}
	case events.FlagAssigned:
		a, err := events.Unmarshal[events.Assignment](e)
		if err != nil {
			return err
		}
		next.Assignee = uuid.Nil
		if a.Assignee != nil {
			next.Assignee = *a.Assignee
		}
	case events.FlagEscalated:
		next.Escalated, next.DecidedAt, next.SettledBy = true, e.OccurredAt, e.Version
	case events.FlagAppealed:
		next.State, next.SettledBy = Appealed, e.Version
	case events.FlagExpired:
		next.State, next.SettledBy = Expired, e.Version
	case events.DecisionUndone:
		u, err := events.Unmarshal[events.UndoneDecision](e)
		if err != nil {
			return err
		}
		next.standAt(u.Standpoint)
		next.SettledBy = e.Version
	default:
		if to, ok := decided[e.Type]; ok {
			next.State, next.DecidedAt, next.SettledBy = to, e.OccurredAt, e.Version
		}
		// What is left, a note or a type of a later build, changes nothing here.
	}
	next.Version = e.Version
	*f = next
	return nil
}

// Standpoint is where the flag stands.
func (f *Flag) Standpoint() events.Standpoint {
	p := events.Standpoint{State: string(f.State), Escalated: f.Escalated}
	if !f.DecidedAt.IsZero() {
		at := f.DecidedAt
		p.DecidedAt = &at
	}
	return p
}

func (f *Flag) standAt(p events.Standpoint) {
	f.State, f.Escalated, f.DecidedAt = State(p.State), p.Escalated, time.Time{}
	if p.DecidedAt != nil {
		f.DecidedAt = *p.DecidedAt
	}
}

// expires says whether it will expire unless something is decided.
func (f *Flag) expires() bool { return f.State == Open && !f.Escalated && !f.ExpiresAt.IsZero() }

// Due says whether it should have expired at a time.
func (f *Flag) Due(now time.Time) bool { return f.expires() && !now.Before(f.ExpiresAt) }

// covers says whether it keeps a hit of its rule on its user from raising another.
func (f *Flag) covers(at time.Time) bool {
	switch {
	case f.State == Dismissed, f.State == Overturned:
		return at.Before(f.DecidedAt.Add(Snooze))
	case f.State == Expired, f.expires():
		return at.Before(f.ExpiresAt)
	}
	return true
}

// decided is the state that an event of a decision leads to.
var decided = map[string]State{
	events.FlagConfirmed: Confirmed, events.FlagDismissed: Dismissed,
	events.FlagUpheld: Upheld, events.FlagOverturned: Overturned,
}

// readRaised reads the payload of a flag's first event but for the evidence,
// which is only counted: of that there may be 200 KiB, and a start reads it all.
func readRaised(e events.Recorded) (f events.Flag, evidence int, err error) {
	const list, item = `,"evidence":[`, `{"event_id":`
	head, rest, ok := bytes.Cut(e.Data, []byte(list))
	if ok {
		head = append(bytes.Clone(head), '}')
		if json.Unmarshal(head, &f) == nil {
			return f, bytes.Count(rest, []byte(item)), nil
		}
	}
	f, err = events.Unmarshal[events.Flag](e) // of another writer
	return f, len(f.Evidence), err
}

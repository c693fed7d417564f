package flag

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Decision is what a moderator can decide.
type Decision string

// The decisions.
const (
	Confirm  Decision = "confirm"
	Dismiss  Decision = "dismiss"
	Escalate Decision = "escalate"
	Uphold   Decision = "uphold"
	Overturn Decision = "overturn"
)

// Decisions lists all decisions.
func Decisions() []Decision { return []Decision{Confirm, Dismiss, Escalate, Uphold, Overturn} }

// allowed says from which states a decision can be made, and its event's type.
var allowed = map[Decision]struct {
	from      []State
	eventType string
}{
	Confirm:  {[]State{Open}, events.FlagConfirmed},
	Dismiss:  {[]State{Open}, events.FlagDismissed},
	Escalate: {[]State{Open}, events.FlagEscalated},
	Uphold:   {[]State{Appealed}, events.FlagUpheld},
	// A moderator may also correct a confirmation that nobody has appealed.
	Overturn: {[]State{Appealed, Confirmed}, events.FlagOverturned},
}

// Text is what somebody wrote: a person sealed, with a key of the flag's user, a rule in
// the clear. So have persons in events of earlier builds.
type Text struct {
	Plain  string
	Sealed *events.SealedText
}

// Decide makes the event of a decision, without an ID. The error is an
// ErrNotAllowed that says why the flag's state does not allow it.
func (f *Flag) Decide(d Decision, by uuid.UUID, note Text, at time.Time) (events.Event, error) {
	return f.decide(d, events.Decision{User: f.User, Rule: f.Rule, By: by, Note: note.Plain, Sealed: note.Sealed}, at)
}

// DecideInBulk is Decide as a part of a bulk operation.
func (f *Flag) DecideInBulk(d Decision, by uuid.UUID, note Text, bulk uuid.UUID, at time.Time) (events.Event, error) {
	e, err := f.decide(d, events.Decision{User: f.User, Rule: f.Rule, By: by, Note: note.Plain, Sealed: note.Sealed, Bulk: &bulk}, at)
	e.ID = events.DeriveID(bulk, f.ID.String())
	return e, err
}

func (f *Flag) decide(d Decision, payload events.Decision, at time.Time) (events.Event, error) {
	rule, known := allowed[d]
	switch {
	case !known:
		return events.Event{}, fmt.Errorf("%w: %q is no decision", ErrNotAllowed, d)
	case f.Due(at):
		return events.Event{}, fmt.Errorf("%w: the flag expired at %s", ErrNotAllowed, f.ExpiresAt.UTC().Format(time.RFC3339))
	case d == Escalate && f.Escalated:
		return events.Event{}, fmt.Errorf("%w: the flag has been escalated already", ErrNotAllowed)
	}
	for _, from := range rule.from {
		if f.State == from {
			return f.event(rule.eventType, at, payload)
		}
	}
	return events.Event{}, fmt.Errorf("%w: the flag is %s; %s needs one that is %s", ErrNotAllowed, f.State, d, orList(rule.from))
}

func orList(states []State) string {
	s := string(states[0])
	for _, more := range states[1:] {
		s += " or " + string(more)
	}
	return s
}

// Appeal makes the event of the user's appeal, without an ID. Only the flagged
// user may appeal, and only while the flag is confirmed.
func (f *Flag) Appeal(user uuid.UUID, text Text, at time.Time) (events.Event, error) {
	switch {
	case user != f.User:
		return events.Event{}, fmt.Errorf("%w: the flag is another user's", ErrNotAllowed)
	case f.State != Confirmed:
		return events.Event{}, fmt.Errorf("%w: the flag is %s; an appeal needs one that is confirmed", ErrNotAllowed, f.State)
	}
	return f.event(events.FlagAppealed, at, events.Appeal{User: user, Text: text.Plain, Sealed: text.Sealed})
}

// Assign makes the event that gives the flag to a moderator, or back if assignee
// is uuid.Nil, without an ID.
func (f *Flag) Assign(assignee, by uuid.UUID, at time.Time) (events.Event, error) {
	if f.State.Final() {
		return events.Event{}, fmt.Errorf("%w: the flag is %s; there is nothing left to decide", ErrNotAllowed, f.State)
	}
	a := events.Assignment{By: by}
	if assignee != uuid.Nil {
		a.Assignee = &assignee
	}
	return f.event(events.FlagAssigned, at, a)
}

// Annotate makes the event of a note, without an ID.
func (f *Flag) Annotate(by uuid.UUID, text Text, at time.Time) (events.Event, error) {
	return f.event(events.FlagNoted, at, events.Note{By: by, Text: text.Plain, Sealed: text.Sealed})
}

// Expire makes the event that the flag's time is over. It follows from the flag, so
// that whoever finds it makes the same one. now is only asked whether it is time.
func (f *Flag) Expire(now time.Time) (events.Event, error) {
	if !f.Due(now) {
		return events.Event{}, fmt.Errorf("%w: the flag is %s and not due to expire", ErrNotAllowed, f.State)
	}
	e, err := f.event(events.FlagExpired, f.ExpiresAt, events.Expiry{User: f.User, Rule: f.Rule})
	e.ID = events.DeriveID(f.ID, "expired "+strconv.FormatUint(e.Version, 10))
	return e, err
}

// Undo makes the event that takes back a bulk operation's decision, provided that
// the flag still stands where that has left it.
func (f *Flag) Undo(d Decision, left events.BulkFlag, by uuid.UUID, note Text, bulk uuid.UUID, at time.Time) (events.Event, error) {
	if f.SettledBy != left.Version {
		return events.Event{}, fmt.Errorf("%w: the flag has moved on since and is %s", ErrNotAllowed, f.State)
	}
	e, err := f.event(events.DecisionUndone, at, events.UndoneDecision{
		User: f.User, Rule: f.Rule, By: by, Note: note.Plain, Sealed: note.Sealed, Bulk: bulk, Undoes: string(d), Standpoint: left.Before,
	})
	e.ID = events.DeriveID(bulk, "undo "+f.ID.String())
	return e, err
}

// event makes the flag's next event.
func (f *Flag) event(eventType string, at time.Time, payload any) (events.Event, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return events.Event{}, fmt.Errorf("flag %s: %s: %w", f.ID, eventType, err)
	}
	return events.Event{Type: eventType, Stream: f.ID, Version: f.Version + 1, OccurredAt: at, Data: data}, nil
}

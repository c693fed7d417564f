package activity

import (
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/problem"
)

// caller is who sends activities.
type caller struct {
	id uuid.UUID
	// trusted callers may name the actor, and their times are taken for true.
	trusted bool
}

// command is one activity that makes sense by itself; whether its actor and its
// target exist is not known yet.
type command struct {
	kind       Kind
	id         uuid.UUID
	actor      uuid.UUID
	target     uuid.UUID
	occurredAt time.Time
	trusted    bool
	actorGiven bool
}

// event makes the event of what is known of its users by now.
func (c *command) event(known pair) events.Event {
	return newEvent(c.actor, c.kind, c.id, c.occurredAt, events.Activity{
		Target: c.target, JoinedAt: known.joinedAt, Trusted: c.trusted,
		TargetJoinedAt: known.targetJoinedAt, TargetHidden: known.targetHidden,
	})
}

// newCommand checks every field of a body and names all that make no sense.
func newCommand(b body, from caller, now time.Time, newID func() uuid.UUID) (command, error) {
	c := command{actor: from.id, trusted: from.trusted}
	var faults []problem.FieldError
	fault := func(field, message string) { faults = append(faults, problem.Field(field, message)) }

	switch string(b.kind) {
	case string(Visit):
		c.kind = Visit
	case string(Like):
		c.kind = Like
	case string(Unlike):
		c.kind = Unlike
	default:
		fault("type", "must be visit, like or unlike")
	}
	var ok bool
	if c.target, ok = parseID(b.target); !ok {
		fault("target", "must be the UUID of a user")
	}
	if b.id == nil {
		c.id = newID()
	} else if c.id, ok = parseID(b.id); !ok {
		fault("id", "must be a UUID of your own making, or left out")
	}
	if b.actor != nil {
		c.actorGiven = true
		if !from.trusted {
			fault("actor", "only a caller with role service may set it; leave it out")
		} else if c.actor, ok = parseID(b.actor); !ok {
			fault("actor", "must be the UUID of a user")
		}
	}
	if c.target == c.actor && c.target != uuid.Nil {
		fault("target", "must be another user than the actor")
	}
	c.occurredAt = now
	if b.occurredAt != nil {
		var why string
		if c.occurredAt, why = parseOccurredAt(b.occurredAt, from, now); why != "" {
			fault("occurred_at", why)
		}
	}
	if faults != nil {
		return command{}, problem.Invalid(faults...)
	}
	return c, nil
}

// parseID reads a UUID in its usual form, 36 characters. The nil UUID is none.
func parseID(b []byte) (uuid.UUID, bool) {
	if len(b) != 36 {
		return uuid.Nil, false
	}
	id, err := uuid.ParseBytes(b)
	return id, err == nil && id != uuid.Nil
}

// parseOccurredAt reads a time and holds it against the clock. why is empty, or
// what is wrong.
func parseOccurredAt(b []byte, from caller, now time.Time) (at time.Time, why string) {
	if err := at.UnmarshalText(b); err != nil {
		return at, "must be an RFC 3339 time, as in 2026-01-31T12:00:00.000Z"
	}
	switch at = at.UTC(); {
	case at.After(now.Add(MaxSkew)):
		return at, "must not be in the future; leave it out to have our clock's time"
	case !from.trusted && at.Before(now.Add(-MaxAge)):
		return at, "must not be more than 72 hours ago"
	case at.Before(time.Unix(0, 0)):
		return at, "must not be before 1970"
	}
	return at, ""
}

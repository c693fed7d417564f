// Package activity accepts visits and likes: it is the writer of the activity
// log.
//
// It promises that
//   - an activity that was answered with 201 is durable, and stands in the log
//     once: the same id again, within the log's window, is answered with what was
//     written first;
//   - activities of one actor keep the order in which they were accepted;
//   - a line of a batch stands or falls alone, and answers come in the order of
//     the lines;
//   - unknown is not absent: a user is called unknown only after the user log was
//     read to its end, and if it cannot be read the answer is 503;
//   - what a user did is hidden when they are marked fraudulent and restored when
//     the last mark is cleared, each change once;
//   - what waits is bounded: bodies, lines, batches under way, the log's queues.
//     Beyond a bound the answer is 503 with Retry-After, and nothing was written.
//
// The domain (Kind, NewEvent, the checks of a command) is plain Go.
package activity

import (
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Kind is what an actor does to a target's profile, as clients write it.
type Kind string

// The kinds of activity.
const (
	Visit  Kind = "visit"
	Like   Kind = "like"
	Unlike Kind = "unlike"
)

// EventType is the kind's name in the log; empty if there is no such kind.
func (k Kind) EventType() string {
	switch k {
	case Visit:
		return events.ProfileVisited
	case Like:
		return events.ProfileLiked
	case Unlike:
		return events.LikeWithdrawn
	}
	return ""
}

// KindOf is the kind that is kept under an event type; empty if that is no
// activity.
func KindOf(eventType string) Kind {
	switch eventType {
	case events.ProfileVisited:
		return Visit
	case events.ProfileLiked:
		return Like
	case events.LikeWithdrawn:
		return Unlike
	}
	return ""
}

// NewEvent makes the event of one activity of whose target nothing else is known.
// kind must be one of the three. occurredAt is kept to the microsecond; joinedAt is
// when the actor's account was created. trusted says that occurredAt comes from a
// source whose clock fraud rules may go by (role service, an import).
func NewEvent(actor, target uuid.UUID, kind Kind, id uuid.UUID, occurredAt, joinedAt time.Time, trusted bool) events.Event {
	return newEvent(actor, kind, id, occurredAt, events.Activity{Target: target, JoinedAt: joinedAt, Trusted: trusted})
}

func newEvent(actor uuid.UUID, kind Kind, id uuid.UUID, occurredAt time.Time, payload events.Activity) events.Event {
	return events.Event{
		ID:         id,
		Type:       kind.EventType(),
		Stream:     actor,
		OccurredAt: occurredAt.UTC().Truncate(time.Microsecond),
		Data:       payload.AppendJSON(make([]byte, 0, payloadSize)),
	}
}

// payloadSize is the largest encoded payload of an activity, in bytes.
const payloadSize = 192

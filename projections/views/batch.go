package views

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
)

// Kind is what a change does.
type Kind uint8

// The kinds of changes, one for each event type that the views know.
const (
	Visited Kind = iota + 1
	Liked
	Withdrawn
	Hidden
	Restored
)

// Change is one event, as far as the views care.
type Change struct {
	Kind     Kind
	Actor    uuid.UUID
	Target   uuid.UUID // zero for Hidden and Restored
	At       time.Time // when it occurred
	Sequence uint64
}

// Batch is what a run of consecutive events of one partition changes.
type Batch struct {
	Partition int
	// First and Last are the sequences of the run's first and last event, 1 ≤
	// First ≤ Last; not each event in between changes something.
	First, Last uint64
	// Changes are in the order of their sequences.
	Changes []Change
}

// Handler hands what a subscription to the activity log brings to the store. An
// event whose payload cannot be read is told to unreadable and otherwise left
// out: it must not hold up its partition for ever.
func Handler(s Store, unreadable func(events.Recorded, error)) subscription.Handler {
	return func(ctx context.Context, b subscription.Batch) error {
		return s.Apply(ctx, Read(b, unreadable))
	}
}

// Read makes a batch of events.
func Read(b subscription.Batch, unreadable func(events.Recorded, error)) Batch {
	out := Batch{
		Partition: b.Partition,
		First:     b.Events[0].Sequence,
		Last:      b.Last(),
		Changes:   make([]Change, 0, len(b.Events)),
	}
	for i := range b.Events {
		e := &b.Events[i]
		c := Change{Kind: kindOf(e.Type), Actor: e.Stream, At: e.OccurredAt, Sequence: e.Sequence}
		switch c.Kind {
		case 0:
			continue
		case Hidden, Restored:
		default:
			a, err := events.ParseActivity(e.Data)
			if err == nil && a.Target == uuid.Nil {
				err = fmt.Errorf("read activity payload: target is missing")
			}
			if err != nil {
				unreadable(*e, err)
				continue
			}
			if a.Target == e.Stream {
				continue
			}
			c.Target = a.Target
		}
		out.Changes = append(out.Changes, c)
	}
	return out
}

func kindOf(eventType string) Kind {
	switch eventType {
	case events.ProfileVisited:
		return Visited
	case events.ProfileLiked:
		return Liked
	case events.LikeWithdrawn:
		return Withdrawn
	case events.ActorHidden:
		return Hidden
	case events.ActorRestored:
		return Restored
	}
	return 0
}

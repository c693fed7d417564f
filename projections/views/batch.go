package views

import (
	"context"
	"errors"
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
	// Skipped are the sequences of the run that it does not speak of, in order:
	// those events are parked, or have come as Late. None of a Late batch.
	Skipped []uint64
	// Late says that the changes come out of turn: others of the partition with
	// higher sequences may have been applied, though none of the same actor. It
	// speaks of its changes alone and not of a run.
	Late bool
	// Changes are in the order of their sequences.
	Changes []Change
}

// Handler hands what a subscription to the activity log brings to the store. An
// event whose payload cannot be read is poison: the subscription parks it.
func Handler(s Store) subscription.Handler {
	return func(ctx context.Context, b subscription.Batch) error {
		batch, err := Read(b)
		if err != nil {
			return err
		}
		return s.Apply(ctx, batch)
	}
}

// Read makes a batch of events. The error is a subscription.PoisonError of the
// first one whose payload cannot be read.
func Read(b subscription.Batch) (Batch, error) {
	out := Batch{
		Partition: b.Partition, First: b.First, Last: b.Last, Late: b.Late,
		Changes: make([]Change, 0, len(b.Events)),
	}
	if !b.Late {
		out.Skipped = skipped(b)
	}
	for i := range b.Events {
		c, err := change(&b.Events[i])
		if err != nil {
			return Batch{}, subscription.Poison(b.Events[i], err)
		}
		if c.Kind != 0 {
			out.Changes = append(out.Changes, c)
		}
	}
	return out, nil
}

// skipped are the sequences of the run of which there is no event.
func skipped(b subscription.Batch) []uint64 {
	if uint64(len(b.Events)) == b.Last-b.First+1 {
		return nil
	}
	var out []uint64
	next := b.First
	for i := range b.Events {
		for ; next < b.Events[i].Sequence; next++ {
			out = append(out, next)
		}
		next = b.Events[i].Sequence + 1
	}
	for ; next <= b.Last; next++ {
		out = append(out, next)
	}
	return out
}

// change reads an event. Kind is 0 if it changes nothing.
func change(e *events.Recorded) (Change, error) {
	c := Change{Kind: kindOf(e.Type), Actor: e.Stream, At: e.OccurredAt, Sequence: e.Sequence}
	switch c.Kind {
	case 0, Hidden, Restored:
		return c, nil
	}
	a, err := events.ParseActivity(e.Data)
	if err != nil {
		return c, err
	}
	switch a.Target {
	case uuid.Nil:
		return c, errors.New("read activity payload: target is missing")
	case e.Stream:
		return Change{}, nil
	}
	c.Target = a.Target
	return c, nil
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

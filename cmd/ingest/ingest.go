// Package ingest writes activities from a trusted source, a file or a
// simulation, into the logs.
//
// It promises that taking in the same source again adds nothing, however far the
// first time came and however much was written since; that each partition gets
// its events in the source's order; and that what waits to be written is bounded.
// It holds the IDs of all that was in the log at its start, about 40 bytes each.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

const (
	// piece is how many events of one partition make one append.
	piece = 512
	// ahead is how many events may be on their way to the log.
	ahead = 64 * piece
)

// Act is one activity to take in.
type Act struct {
	ID            uuid.UUID
	Kind          activity.Kind
	Actor, Target uuid.UUID
	At, JoinedAt  time.Time // of the act, and of the actor's account
}

// Counts is what became of the acts.
type Counts struct {
	Written int // appended now
	Known   int // in the log already
}

// Writer appends acts to the activity log.
type Writer struct {
	log    *log.Log
	joined map[uuid.UUID]time.Time
	// known are the IDs that were in the log at the start. The log knows the last
	// ones itself, but only until as many new ones have come.
	known map[uuid.UUID]struct{}

	counts  Counts
	current [][]events.Event // by partition, each less than a piece
	flying  []flight         // oldest first
	inAir   int              // events of flying
}

// NewWriter reads from the logs what it must know: who is registered since when,
// and which activities are there.
func NewWriter(ctx context.Context, activities *log.Log, users log.Reader) (*Writer, error) {
	w := &Writer{
		log: activities, joined: make(map[uuid.UUID]time.Time), known: make(map[uuid.UUID]struct{}),
		current: make([][]events.Event, activities.Partitions()),
	}
	for e, err := range log.Events(ctx, users, 0, 0) {
		if err != nil {
			return nil, fmt.Errorf("read who is registered: %w", err)
		}
		if e.Type == events.UserRegistered {
			r, err := events.Unmarshal[events.Registration](e)
			if err != nil {
				return nil, err
			}
			w.joined[e.Stream] = r.JoinedAt
		}
	}
	for p := range activities.Partitions() {
		for e, err := range log.Events(ctx, activities, p, 0) {
			if err != nil {
				return nil, fmt.Errorf("read what is in the log: %w", err)
			}
			w.known[e.ID] = struct{}{}
		}
	}
	return w, nil
}

// Add takes one act in. It returns before the act is durable: Flush says when.
// An actor who is registered joined when the user log says, whatever the act does.
func (w *Writer) Add(ctx context.Context, a Act) error {
	if _, there := w.known[a.ID]; there {
		w.counts.Known++
		return nil
	}
	joined, ok := w.joined[a.Actor]
	if !ok {
		joined = a.JoinedAt
	}
	e := activity.NewEvent(a.Actor, a.Target, a.Kind, a.ID, a.At, joined, true)
	p := events.PartitionOf(e.Stream, len(w.current))
	w.current[p] = append(w.current[p], e)
	if len(w.current[p]) < piece {
		return nil
	}
	return w.submit(ctx, p)
}

// Flush returns once every act added is durable, and what became of them.
func (w *Writer) Flush(ctx context.Context) (Counts, error) {
	for p := range w.current {
		if err := w.submit(ctx, p); err != nil {
			return w.counts, err
		}
	}
	for len(w.flying) > 0 {
		if err := w.land(ctx); err != nil {
			return w.counts, err
		}
	}
	return w.counts, nil
}

// flight is an append on its way.
type flight struct {
	pending *log.Pending
	events  int
}

// submit hands a partition's events to the log, once there is room for them.
func (w *Writer) submit(ctx context.Context, p int) error {
	evs := w.current[p]
	if len(evs) == 0 {
		return nil
	}
	for w.inAir+len(evs) > ahead {
		if err := w.land(ctx); err != nil {
			return err
		}
	}
	pending, err := w.log.Submit(evs...)
	for errors.Is(err, log.ErrOverloaded) && len(w.flying) > 0 {
		if err := w.land(ctx); err != nil {
			return err
		}
		pending, err = w.log.Submit(evs...)
	}
	if err != nil {
		return err
	}
	w.flying = append(w.flying, flight{pending, len(evs)})
	w.inAir += len(evs)
	w.current[p] = nil
	return nil
}

// land waits for the oldest append.
func (w *Writer) land(ctx context.Context) error {
	oldest := w.flying[0]
	w.flying = w.flying[1:]
	w.inAir -= oldest.events
	appended, err := oldest.pending.Wait(ctx)
	if err != nil {
		return err
	}
	for _, a := range appended {
		if a.Duplicate {
			w.counts.Known++
		} else {
			w.counts.Written++
		}
	}
	return nil
}

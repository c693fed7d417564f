// Package ingest writes activities from a trusted source, a file or a
// simulation, into the logs.
//
// It promises that taking in the same source again adds nothing, however far the
// first time came; that each partition gets its events in the source's order;
// and that what waits to be written is bounded by two chunks.
package ingest

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

const (
	// chunk is how many acts are submitted before those of the chunk before are
	// waited for. Two of them fit a partition's queue (log.MaxQueuedEvents).
	chunk = log.MaxQueuedEvents / 2
	// piece is how many events of one partition make one append.
	piece = 1024
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
	old    map[uuid.UUID]struct{} // IDs that the log no longer knows by itself

	counts  Counts
	current [][]events.Event // by partition
	size    int
	flying  []*log.Pending
}

// NewWriter reads from the logs what it must know: who is registered since when,
// and, of a long activity log, the IDs that are beyond its window.
func NewWriter(ctx context.Context, activities *log.Log, users log.Reader) (*Writer, error) {
	w := &Writer{
		log: activities, joined: make(map[uuid.UUID]time.Time), old: make(map[uuid.UUID]struct{}),
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
		head, err := activities.Head(ctx, p)
		if err != nil {
			return nil, fmt.Errorf("read what is in the log: %w", err)
		}
		for e, err := range log.Events(ctx, activities, p, 0) {
			if err != nil {
				return nil, fmt.Errorf("read what is in the log: %w", err)
			}
			if e.Sequence+log.Window > head {
				break
			}
			w.old[e.ID] = struct{}{}
		}
	}
	return w, nil
}

// Add takes one act in. It returns before the act is durable: Flush says when.
// An actor who is registered joined when the user log says, whatever the act does.
func (w *Writer) Add(ctx context.Context, a Act) error {
	if _, known := w.old[a.ID]; known {
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
	if w.size++; w.size < chunk {
		return nil
	}
	return w.submit(ctx)
}

// Flush returns once every act added is durable, and what became of them.
func (w *Writer) Flush(ctx context.Context) (Counts, error) {
	if err := w.submit(ctx); err != nil {
		return w.counts, err
	}
	err := w.land(ctx)
	return w.counts, err
}

// submit hands the chunk to the log, once the chunk before has landed.
func (w *Writer) submit(ctx context.Context) error {
	before := w.flying
	w.flying = nil
	for p, evs := range w.current {
		for len(evs) > 0 {
			n := min(piece, len(evs))
			pending, err := w.log.Submit(evs[:n:n]...)
			if err != nil {
				return err
			}
			w.flying = append(w.flying, pending)
			evs = evs[n:]
		}
		w.current[p] = nil
	}
	w.size = 0
	after := w.flying
	w.flying = before
	err := w.land(ctx)
	w.flying = after
	return err
}

func (w *Writer) land(ctx context.Context) error {
	for _, pending := range w.flying {
		appended, err := pending.Wait(ctx)
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
	}
	w.flying = nil
	return nil
}

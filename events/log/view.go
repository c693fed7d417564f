package log

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// view is what a partition's writer knows of it: the head, and the IDs of the
// last Window events.
type view struct {
	head       uint64
	recordedAt time.Time
	byID       map[uuid.UUID]uint64
	ring       []uuid.UUID // the same IDs, oldest at next once it is full
	next       int
}

// openView reads the partition's tail.
func (p *partition) openView(ctx context.Context) error {
	head, err := p.log.store.Head(ctx, p.number)
	if err != nil {
		return p.unavailable(err)
	}
	p.view = view{byID: make(map[uuid.UUID]uint64)}
	if head > Window {
		p.view.head = head - Window
	}
	if _, err := p.catchUp(ctx); err != nil {
		return p.unavailable(err)
	}
	p.ready = true
	return nil
}

// catchUp folds in what is new in the store and says whether there was any.
func (p *partition) catchUp(ctx context.Context) (moved bool, err error) {
	for c, err := range p.log.store.Read(ctx, p.number, p.view.head) {
		if err != nil {
			return moved, err
		}
		p.view.fold(c)
		moved = true
	}
	return moved, nil
}

func (v *view) fold(c events.Commit) {
	for e := range c.EventsAfter(v.head) {
		v.remember(e.ID, e.Sequence)
	}
	v.head, v.recordedAt = c.Last(), c.RecordedAt
}

// foldOwn is fold for a commit that was made of these events just now.
func (v *view) foldOwn(c events.Commit, evs []events.Event) {
	for i := range evs {
		v.remember(evs[i].ID, c.First+uint64(i)) //nolint:gosec // an index
	}
	v.head, v.recordedAt = c.Last(), c.RecordedAt
}

func (v *view) remember(id uuid.UUID, sequence uint64) {
	if _, known := v.byID[id]; known {
		return // the first position is the one that counts
	}
	v.byID[id] = sequence
	if len(v.ring) < Window {
		v.ring = append(v.ring, id)
		return
	}
	delete(v.byID, v.ring[v.next])
	v.ring[v.next] = id
	v.next = (v.next + 1) % Window
}

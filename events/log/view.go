package log

import (
	"context"
	"time"

	"github.com/meet5/backend/events"
)

// view is what a partition's writer knows of it: the head, and the IDs of the
// last Window events.
type view struct {
	head       uint64
	recordedAt time.Time
	known      recent
}

// openView reads the partition's tail, whole: a writer does not go on after a harm.
func (p *partition) openView(ctx context.Context) error {
	head, err := p.log.store.Head(ctx, p.number)
	if err != nil {
		return p.unavailable(err)
	}
	p.view = view{known: newRecent(Window)}
	if head > Window {
		p.view.head = head - Window
	}
	if _, err := p.read(ctx); err != nil {
		return p.unavailable(err)
	}
	p.ready = true
	return nil
}

// catchUp folds in what is new in the store and says whether there was any.
func (p *partition) catchUp(ctx context.Context) (moved bool, err error) {
	store, ok := p.log.store.(Gister)
	if !ok {
		return p.read(ctx)
	}
	for g, err := range store.Gists(ctx, p.number, p.view.head) {
		if err != nil {
			return moved, err
		}
		p.view.foldGist(g)
		moved = true
	}
	return moved, nil
}

// read is catchUp with whole commits.
func (p *partition) read(ctx context.Context) (moved bool, err error) {
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
		v.known.add(e.ID, e.Sequence)
	}
	v.head, v.recordedAt = c.Last(), c.RecordedAt
}

func (v *view) foldGist(g Gist) {
	for i, id := range g.IDs {
		v.known.add(id, g.First+uint64(i)) //nolint:gosec // an index
	}
	v.head, v.recordedAt = g.First+uint64(len(g.IDs))-1, g.RecordedAt
}

// foldOwn is fold for a commit that was made of these events just now.
func (v *view) foldOwn(c events.Commit, evs []events.Event) {
	for i := range evs {
		v.known.add(evs[i].ID, c.First+uint64(i)) //nolint:gosec // an index
	}
	v.head, v.recordedAt = c.Last(), c.RecordedAt
}

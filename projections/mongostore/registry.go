package mongostore

import (
	"context"
	"sync"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/projections/views"
)

// maxKnown is of how many actors of a partition it is remembered whether they are
// hidden. One takes about 60 bytes.
const maxKnown = 10_000

// registry remembers of actors whether they are hidden, so that the question need
// not be asked with every batch. What it remembers of a partition holds as long as
// each batch follows on the one before: then whatever hides or restores an actor
// there has come by. After a gap (another process was at it), or when events were
// parked or come late (their actor may have been hidden out of turn), all of it is
// forgotten.
type registry struct {
	mu         sync.Mutex
	partitions map[int]*known
}

type known struct {
	last   uint64 // the last sequence that was applied
	actors map[uuid.UUID]visibility
}

// begin forgets what may not hold for a batch.
func (r *registry) begin(b views.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.partitions[b.Partition]
	if k == nil {
		k = &known{}
		if r.partitions == nil {
			r.partitions = make(map[int]*known)
		}
		r.partitions[b.Partition] = k
	}
	if b.Late || len(b.Skipped) > 0 || b.First > k.last+1 || len(k.actors) > maxKnown {
		k.actors = nil
	}
	for _, c := range b.Changes {
		if c.Kind == views.Hidden || c.Kind == views.Restored {
			delete(k.actors, c.Actor)
		}
	}
}

// end notes that a batch was applied.
func (r *registry) end(b views.Batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if k := r.partitions[b.Partition]; !b.Late {
		k.last = max(k.last, b.Last)
	}
}

// of returns what is remembered of the actors, and those of whom nothing is.
func (r *registry) of(partition int, actors []uuid.UUID) (remembered map[uuid.UUID]visibility, unknown []uuid.UUID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	remembered = make(map[uuid.UUID]visibility, len(actors))
	for _, a := range actors {
		if v, ok := r.partitions[partition].actors[a]; ok {
			remembered[a] = v
		} else {
			unknown = append(unknown, a)
		}
	}
	return remembered, unknown
}

func (r *registry) remember(partition int, actors []uuid.UUID, found map[uuid.UUID]visibility) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.partitions[partition]
	if k.actors == nil {
		k.actors = make(map[uuid.UUID]visibility)
	}
	for _, a := range actors {
		k.actors[a] = found[a]
	}
}

// visibilityOf says of the actors of the groups, all of one partition, whether they
// are hidden. It may be asked beside the pairs: whoever comes to a pair that is not
// there has worked through all of its actor before.
func (s *Store) visibilityOf(ctx context.Context, partition int, groups []changesOf) (map[uuid.UUID]visibility, error) {
	var actors []uuid.UUID
	for _, g := range groups { // sorted by actor
		if actor := g.key.first(); len(actors) == 0 || actors[len(actors)-1] != actor {
			actors = append(actors, actor)
		}
	}
	all, unknown := s.registry.of(partition, actors)
	if len(unknown) == 0 {
		return all, nil
	}
	ids := make([]bson.Binary, len(unknown))
	for i, a := range unknown {
		ids[i] = userID(a)
	}
	found, err := find[hiddenDoc](ctx, s.hidden, ids)
	if err != nil {
		return nil, err
	}
	read := make(map[uuid.UUID]visibility, len(found))
	for _, d := range found {
		read[uuid.UUID(d.ID.Data)] = visibility{d.Hidden, d.Pos}
	}
	s.registry.remember(partition, unknown, read)
	for a, v := range read {
		all[a] = v
	}
	return all, nil
}

package activity

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
)

// directory knows who there is and since when: a fold of the user log, private to
// this instance and made anew at each start. A user takes about 40 bytes.
type directory struct {
	mu     sync.RWMutex
	joined map[uuid.UUID]int64 // microseconds since 1970
}

func newDirectory() *directory {
	return &directory{joined: make(map[uuid.UUID]int64)}
}

// pair looks up an actor and a target at once. Erased users are as unknown as
// those that never were.
func (d *directory) pair(actor, target uuid.UUID) (joinedAt time.Time, actorKnown, targetKnown bool) {
	d.mu.RLock()
	at, actorKnown := d.joined[actor]
	_, targetKnown = d.joined[target]
	d.mu.RUnlock()
	return time.UnixMicro(at).UTC(), actorKnown, targetKnown
}

// handle is the subscription's handler. Folding an event again changes nothing:
// the later ones of the same user come again after it, too. A registration that
// cannot be read leaves its user unknown until an operator has it retried.
func (d *directory) handle(_ context.Context, b subscription.Batch) error {
	type change struct {
		user   uuid.UUID
		joined int64
		erased bool
	}
	changes := make([]change, 0, len(b.Events))
	for _, e := range b.Events {
		switch e.Type {
		case events.UserRegistered:
			at, err := registeredAt(e)
			if err != nil {
				return subscription.Poison(e, err)
			}
			changes = append(changes, change{user: e.Stream, joined: at.UnixMicro()})
		case events.UserErased:
			changes = append(changes, change{user: e.Stream, erased: true})
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range changes {
		if c.erased {
			delete(d.joined, c.user)
		} else {
			d.joined[c.user] = c.joined
		}
	}
	return nil
}

// registeredAt reads the one field of a registration that is needed here, and
// leaves the sealed ones alone.
func registeredAt(e events.Recorded) (time.Time, error) {
	var p struct {
		JoinedAt time.Time `json:"joined_at"`
	}
	if err := json.Unmarshal(e.Data, &p); err != nil {
		return time.Time{}, fmt.Errorf("read %s %s at %d/%d: %w", e.Type, e.ID, e.Partition, e.Sequence, err)
	}
	if p.JoinedAt.IsZero() {
		return e.OccurredAt, nil
	}
	return p.JoinedAt, nil
}

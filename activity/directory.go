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

// directory knows who there is, since when, and who of them is marked fraudulent: a
// fold of the user log, private to this instance and made anew at each start. A user
// takes about 40 bytes.
type directory struct {
	mu     sync.RWMutex
	joined map[uuid.UUID]int64 // microseconds since 1970
	marked map[uuid.UUID]*standing
}

func newDirectory() *directory {
	return &directory{joined: make(map[uuid.UUID]int64), marked: make(map[uuid.UUID]*standing)}
}

// pair is what is known of an actor and a target. The rest of an unknown one is zero.
type pair struct {
	actorKnown, targetKnown bool
	joinedAt                time.Time // the actor
	targetJoinedAt          time.Time
	targetHidden            bool // since the target is marked fraudulent
}

// pair looks up an actor and a target at once. Erased users are as unknown as
// those that never were.
func (d *directory) pair(actor, target uuid.UUID) (p pair) {
	d.mu.RLock()
	at, actorKnown := d.joined[actor]
	targetAt, targetKnown := d.joined[target]
	hidden := d.marked[target]
	d.mu.RUnlock()
	if actorKnown {
		p.actorKnown, p.joinedAt = true, time.UnixMicro(at).UTC()
	}
	if targetKnown {
		p.targetKnown, p.targetJoinedAt, p.targetHidden = true, time.UnixMicro(targetAt).UTC(), hidden != nil
	}
	return p
}

// handle is the subscription's handler. Folding an event again changes nothing:
// the later ones of the same user come again after it, too. A registration that
// cannot be read leaves its user unknown until an operator has it retried.
func (d *directory) handle(_ context.Context, b subscription.Batch) error {
	changes := make([]func(), 0, len(b.Events))
	for _, e := range b.Events {
		change, err := d.change(e)
		if err != nil {
			return subscription.Poison(e, err)
		}
		if change != nil {
			changes = append(changes, change)
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, change := range changes {
		change()
	}
	return nil
}

// change is what an event changes, to be done under the lock; nil if nothing.
func (d *directory) change(e events.Recorded) (func(), error) {
	switch e.Type {
	case events.UserRegistered:
		at, err := registeredAt(e)
		return func() { d.joined[e.Stream] = at.UnixMicro() }, err
	case events.UserErased:
		return func() {
			delete(d.joined, e.Stream)
			delete(d.marked, e.Stream)
		}, nil
	case events.UserMarkedFraudulent, events.UserCleared:
		p, err := events.Unmarshal[events.Standing](e)
		if err != nil {
			// It leaves the user as they stood. To park it would hold up their erasure,
			// and visibility, which cannot go on without it, reports it.
			return nil, nil //nolint:nilerr // see above
		}
		return func() { d.mark(e.Stream, e.Type, p.Flag) }, nil
	}
	return nil, nil
}

// mark notes a mark of a user, or its clearing.
func (d *directory) mark(user uuid.UUID, eventType, flag string) {
	s := d.marked[user]
	if s == nil {
		s = new(standing)
	}
	s.set(eventType, flag)
	if s.fraudulent() {
		d.marked[user] = s
	} else {
		delete(d.marked, user)
	}
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

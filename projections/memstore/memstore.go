// Package memstore keeps the read models in memory. They are gone with the
// process and rebuilt from the log at its next start.
//
// It promises, beside what views.Store says:
//   - a batch takes effect whole or, when it leaves a gap, not at all;
//   - what was skipped or came late is remembered by its sequence, as long as it
//     is outstanding, so that each change counts once whenever it comes;
//   - a list is answered in one pass over the user's entries, of which it keeps no
//     more than two pages, and the numbers in one pass, without copying either;
//   - it is compact: a visitor's pair with a profile, or a liker's, takes about 75
//     bytes, a user about 100, whatever the number of events (BenchmarkRebuild
//     measures it).
package memstore

import (
	"context"
	"fmt"
	"sync"

	"github.com/google/uuid"

	"github.com/meet5/backend/projections/views"
)

// Store is a views.Store in memory.
type Store struct {
	mu      sync.RWMutex
	applied map[int]*applied // by partition

	// A user, a visit and a like is known by its place in its slice. Place 0 is
	// none, so that a zero link ends a list.
	users   []user
	visits  []visit
	likes   []like
	userOf  map[uuid.UUID]uint32
	visitOf map[pair]uint32
	likeOf  map[pair]uint32
}

var _ views.Store = (*Store)(nil)

// pair is an actor's place and a target's.
type pair uint64

func pairOf(actor, target uint32) pair { return pair(actor)<<32 | pair(target) }

// user holds the heads of the lists that run through its visits and likes.
type user struct {
	id       uuid.UUID
	visitors uint32
	visits   uint32
	likers   uint32
	likes    uint32
	hidden   bool
}

type visit struct {
	actor, target uint32
	nextOfTarget  uint32 // the target's next visitor
	nextOfActor   uint32 // the actor's next visit
	count         uint32
	first, last   int64 // microseconds since 1970
}

type like struct {
	actor, target uint32
	nextOfTarget  uint32
	nextOfActor   uint32
	reverse       uint32 // the target's like of the actor, standing or not
	at            int64  // microseconds since 1970, or withdrawn
}

// withdrawn stands for the time of a like that does not stand. No event has that
// time: it is 292,000 years ago.
const withdrawn = -1 << 63

// New makes an empty store.
func New() *Store {
	return &Store{
		applied: make(map[int]*applied),
		users:   make([]user, 1),
		visits:  make([]visit, 1),
		likes:   make([]like, 1),
		userOf:  make(map[uuid.UUID]uint32),
		visitOf: make(map[pair]uint32),
		likeOf:  make(map[pair]uint32),
	}
}

// Apply implements views.Store. It does not wait and so does not heed ctx.
func (s *Store) Apply(_ context.Context, b views.Batch) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	done := s.applied[b.Partition]
	if done == nil {
		done = newApplied()
		s.applied[b.Partition] = done
	}
	if !b.Late && b.First > done.upTo+1 {
		return fmt.Errorf("apply %d to %d of partition %d: %d to %d are missing", b.First, b.Last, b.Partition, done.upTo+1, b.First-1)
	}
	for i := range b.Changes {
		if c := &b.Changes[i]; done.take(c.Sequence, b.Late) {
			s.apply(c)
		}
	}
	if !b.Late {
		done.passed(b)
	}
	return nil
}

func (s *Store) apply(c *views.Change) {
	actor := s.user(c.Actor)
	switch at := c.At.UnixMicro(); c.Kind {
	case views.Visited:
		v := s.visit(actor, s.user(c.Target))
		if v.count == 0 {
			v.first, v.last = at, at
		}
		v.count++
		v.first, v.last = min(v.first, at), max(v.last, at)
	case views.Liked:
		if l := s.like(actor, s.user(c.Target)); l.at == withdrawn {
			l.at = at
		}
	case views.Withdrawn:
		if n, ok := s.likeOf[pairOf(actor, s.user(c.Target))]; ok {
			s.likes[n].at = withdrawn
		}
	case views.Hidden:
		s.users[actor].hidden = true
	case views.Restored:
		s.users[actor].hidden = false
	}
}

// user finds the user's place, or makes one.
func (s *Store) user(id uuid.UUID) uint32 {
	if n, ok := s.userOf[id]; ok {
		return n
	}
	n := uint32(len(s.users)) //nolint:gosec // memory ends long before 4 billion users
	s.users = append(s.users, user{id: id})
	s.userOf[id] = n
	return n
}

// visit finds the pair's visits, or makes an entry with none. The pointer is good
// until the next call.
func (s *Store) visit(actor, target uint32) *visit {
	key := pairOf(actor, target)
	if n, ok := s.visitOf[key]; ok {
		return &s.visits[n]
	}
	n := uint32(len(s.visits)) //nolint:gosec // memory ends long before 4 billion pairs
	a, t := &s.users[actor], &s.users[target]
	s.visits = append(s.visits, visit{actor: actor, target: target, nextOfTarget: t.visitors, nextOfActor: a.visits})
	a.visits, t.visitors = n, n
	s.visitOf[key] = n
	return &s.visits[n]
}

// like finds the pair's like, or makes one that does not stand.
func (s *Store) like(actor, target uint32) *like {
	key := pairOf(actor, target)
	if n, ok := s.likeOf[key]; ok {
		return &s.likes[n]
	}
	n := uint32(len(s.likes)) //nolint:gosec // memory ends long before 4 billion pairs
	a, t := &s.users[actor], &s.users[target]
	reverse := s.likeOf[pairOf(target, actor)]
	s.likes = append(s.likes, like{
		actor: actor, target: target, nextOfTarget: t.likers, nextOfActor: a.likes,
		reverse: reverse, at: withdrawn,
	})
	a.likes, t.likers = n, n
	s.likes[reverse].reverse = n // place 0 belongs to nobody
	s.likeOf[key] = n
	return &s.likes[n]
}

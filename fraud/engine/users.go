package engine

import (
	"sync"

	"github.com/google/uuid"
)

// Users numbers the users that are targets, so that state names one in four bytes.
// The numbers mean nothing outside, and nothing that is found depends on them. All
// engines of a process had better share one; it is safe for concurrent use. It never
// forgets a user, and takes some 60 bytes for each.
type Users struct {
	shards [userShards]userShard
	mu     sync.RWMutex
	ids    []uuid.UUID // by number less one
}

const userShards = 64

type userShard struct {
	mu      sync.RWMutex
	numbers map[uuid.UUID]uint32
}

// NewUsers makes a numbering without users.
func NewUsers() *Users {
	u := &Users{}
	for i := range u.shards {
		u.shards[i].numbers = make(map[uuid.UUID]uint32)
	}
	return u
}

// number is the user's, from 1 on; 0 if there are more than maxTarget.
func (u *Users) number(id uuid.UUID) uint32 {
	s := &u.shards[(id[15]^id[7])%userShards]
	s.mu.RLock()
	n, ok := s.numbers[id]
	s.mu.RUnlock()
	if ok {
		return n
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if n, ok := s.numbers[id]; ok {
		return n
	}
	if n = u.add(id); n != 0 {
		s.numbers[id] = n
	}
	return n
}

func (u *Users) add(id uuid.UUID) uint32 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.ids) == maxTarget {
		return 0
	}
	u.ids = append(u.ids, id)
	return uint32(len(u.ids)) //nolint:gosec // at most maxTarget
}

// id is whose the number is.
func (u *Users) id(number uint32) uuid.UUID {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return u.ids[number-1]
}

func (u *Users) count() int {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return len(u.ids)
}

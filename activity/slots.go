package activity

import (
	"sync"

	"github.com/google/uuid"
)

// slots bounds how much goes on at once, in all and for each caller.
type slots struct {
	all, each int

	mu    sync.Mutex
	taken int
	of    map[uuid.UUID]int
}

// take reports whether there was a slot. One that was taken must be given back.
func (s *slots) take(caller uuid.UUID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken >= s.all || s.of[caller] >= s.each {
		return false
	}
	if s.of == nil {
		s.of = make(map[uuid.UUID]int)
	}
	s.taken++
	s.of[caller]++
	return true
}

func (s *slots) giveBack(caller uuid.UUID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken--
	if s.of[caller]--; s.of[caller] == 0 {
		delete(s.of, caller)
	}
}

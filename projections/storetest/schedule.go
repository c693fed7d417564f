package storetest

import (
	"math/rand/v2"
	"slices"
	"sync"
)

// schedule decides who of several workers goes on, whenever each of them is about
// to exchange something with the server: the one of the highest rank. Ranks are
// random and change now and then, so that one worker often stands still in the
// middle of a batch while others work through several.
type schedule struct {
	mu      sync.Mutex
	random  *rand.Rand
	calm    int // turns between a worker's ranks, on average
	active  int // calls under way
	waiting []*turn
}

// maxCalm is the most turns that pass between a worker's ranks, on average.
const maxCalm = 6

// worker is one that makes one call at a time; a call may exchange things side by
// side.
type worker struct {
	rank   uint64
	turns  int // that it has waited for
	holdAt int // the turn that comes when no other worker has a call under way; 0 if none does
}

// turn is an exchange that waits.
type turn struct {
	of      *worker
	granted chan struct{}
}

func newSchedule(seed uint64) *schedule {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // reproducible on purpose
	return &schedule{random: random, calm: 1 + random.IntN(maxCalm)}
}

func (s *schedule) worker() *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &worker{rank: s.random.Uint64()}
}

// begin and end enclose a worker's call.
func (s *schedule) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active++
}

func (s *schedule) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.active--
	s.grant()
}

// restart counts the worker's turns anew.
func (s *schedule) restart(w *worker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.turns = 0
}

// wait returns when it is the worker's turn, and which one it is, from 1 on.
func (s *schedule) wait(w *worker) (n int) {
	t := &turn{of: w, granted: make(chan struct{})}
	s.mu.Lock()
	w.turns++
	n = w.turns
	if n == w.holdAt {
		w.rank = 0
	}
	s.waiting = append(s.waiting, t)
	s.grant()
	s.mu.Unlock()
	<-t.granted
	return n
}

// grant lets workers go on until one is on its way to the server or its end. One
// that has let go a part of itself and waits with another still counts as waiting:
// the part may come to its end without a word.
func (s *schedule) grant() {
	for s.allWait() {
		next := 0
		for i, t := range s.waiting {
			if t.of.rank > s.waiting[next].of.rank {
				next = i
			}
		}
		t := s.waiting[next]
		s.waiting = slices.Delete(s.waiting, next, next+1)
		if t.of.rank > 0 && s.random.IntN(s.calm) == 0 {
			t.of.rank = s.random.Uint64()
		}
		close(t.granted)
	}
}

func (s *schedule) allWait() bool {
	stopped := make(map[*worker]bool, s.active)
	for _, t := range s.waiting {
		stopped[t.of] = true
	}
	return len(stopped) > 0 && len(stopped) == s.active
}

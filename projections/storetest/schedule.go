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
	active  int // calls under way
	waiting []*turn
}

// reshuffle is how many turns pass between a worker's ranks, on average.
const reshuffle = 6

// worker is one that makes one call at a time; a call may exchange things side by
// side.
type worker struct{ rank uint64 }

// turn is an exchange that waits.
type turn struct {
	of      *worker
	granted chan struct{}
}

func newSchedule(seed uint64) *schedule {
	return &schedule{random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // reproducible on purpose
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

// wait returns when it is the worker's turn.
func (s *schedule) wait(w *worker) {
	t := &turn{of: w, granted: make(chan struct{})}
	s.mu.Lock()
	s.waiting = append(s.waiting, t)
	s.grant()
	s.mu.Unlock()
	<-t.granted
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
		if s.random.IntN(reshuffle) == 0 {
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

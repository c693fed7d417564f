package backtest

import (
	"context"
	"sync"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// shards keeps the workers from waiting for one another.
const shards = 64

// crowd is the users who did something within the period or were hit, and the
// highest rung that each has reached on each rule's ladder. It is safe for
// concurrent use.
type crowd [shards]*shard

type shard struct {
	mu    sync.Mutex
	index map[uuid.UUID]uint32
	users []uuid.UUID
	rungs [][]uint8 // by rule and user; shorter than users where the rest is 0
	known []Verdict // by user, once judged
}

func newCrowd(rules int) *crowd {
	c := new(crowd)
	for i := range c {
		c[i] = &shard{index: make(map[uuid.UUID]uint32), rungs: make([][]uint8, rules)}
	}
	return c
}

// add takes a user in.
func (c *crowd) add(user uuid.UUID) {
	s := c[events.PartitionOf(user, shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number(user)
}

// reach notes that a user has come up to a rung, from 1 on.
func (c *crowd) reach(user uuid.UUID, rule int, rung uint8) {
	s := c[events.PartitionOf(user, shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.number(user)
	for int(n) >= len(s.rungs[rule]) {
		s.rungs[rule] = append(s.rungs[rule], 0)
	}
	s.rungs[rule][n] = max(s.rungs[rule][n], rung)
}

func (s *shard) number(user uuid.UUID) uint32 {
	n, ok := s.index[user]
	if !ok {
		n = uint32(len(s.users)) //nolint:gosec // memory ends before 2^32 users
		s.index[user] = n
		s.users = append(s.users, user)
	}
	return n
}

// judge notes what is known of each user, once nobody is added any more, and counts
// them.
func (c *crowd) judge(ctx context.Context, k *knowledge) (all tally, err error) {
	for _, s := range c {
		if err := ctx.Err(); err != nil {
			return all, err
		}
		s.known = make([]Verdict, len(s.users))
		for n, user := range s.users {
			if k != nil {
				s.known[n] = k.of(user)
			}
			all.add(s.known[n])
		}
	}
	return all, nil
}

// highest counts, once all are judged, the users by the highest rung that they have
// reached on a rule's ladder of so many.
func (c *crowd) highest(rule, rungs int) []tally {
	reached := make([]tally, rungs+1)
	for _, s := range c {
		for n, known := range s.known {
			var rung uint8
			if n < len(s.rungs[rule]) {
				rung = s.rungs[rule][n]
			}
			reached[rung].add(known)
		}
	}
	return reached
}

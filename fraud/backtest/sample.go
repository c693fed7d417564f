package backtest

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/engine"
)

// sample keeps, of the users hit, those whose hash is lowest: as good as drawn by
// lot, so that they are not just the earliest, and the same ones however often and
// in whichever order they come.
type sample struct {
	seed  uint64
	most  int
	users map[uuid.UUID]*sampled // fewer than 2 most
	full  bool
	bar   uint64 // hashes from here on have no chance once it is full
}

// sampled is a user of a sample.
type sampled struct {
	hash  uint64
	hits  int
	first engine.Hit
}

func newSample(seed uint64, most int) sample {
	return sample{seed: seed, most: most, users: make(map[uuid.UUID]*sampled)}
}

// add takes in a hit. A user who had no chance once has none later: the bar only
// falls. So what is known of those who are left is complete.
func (s *sample) add(h engine.Hit) {
	if u := s.users[h.User]; u != nil {
		u.hits++
		if earlier(h, u.first) {
			u.first = h
		}
		return
	}
	hash := lot(s.seed, h.User)
	if s.full && hash >= s.bar {
		return
	}
	s.users[h.User] = &sampled{hash: hash, hits: 1, first: h}
	if len(s.users) >= 2*s.most {
		s.trim()
	}
}

// trim lets go of those beyond the sample's size, and returns the others in order.
func (s *sample) trim() []uuid.UUID {
	order := s.sorted()
	if len(order) <= s.most {
		return order
	}
	for _, user := range order[s.most:] {
		delete(s.users, user)
	}
	order = order[:s.most]
	s.full, s.bar = true, s.users[order[s.most-1]].hash
	return order
}

// merge takes in the sample of another partition.
func (s *sample) merge(other sample) {
	for user, theirs := range other.users {
		if ours := s.users[user]; ours != nil {
			ours.hits += theirs.hits
			if earlier(theirs.first, ours.first) {
				ours.first = theirs.first
			}
			continue
		}
		s.users[user] = theirs
	}
}

// sorted is the users by their hashes.
func (s *sample) sorted() []uuid.UUID {
	return slices.SortedFunc(maps.Keys(s.users), func(a, b uuid.UUID) int {
		return cmp.Or(cmp.Compare(s.users[a].hash, s.users[b].hash), bytes.Compare(a[:], b[:]))
	})
}

func earlier(a, b engine.Hit) bool {
	return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Position.Partition, b.Position.Partition),
		cmp.Compare(a.Position.Sequence, b.Position.Sequence)) < 0
}

// lot is the FNV-1a hash (64 bit) of seed and user, mixed by MurmurHash3's
// finalizer, without which users that differ little would lie close together.
func lot(seed uint64, user uuid.UUID) uint64 {
	f := fnv.New64a()
	_, _ = f.Write(binary.BigEndian.AppendUint64(nil, seed)) // never fails
	_, _ = f.Write(user[:])
	h := f.Sum64()
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

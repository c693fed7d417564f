package token

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"
)

func TestTheCacheIsBoundedAndDropsWhatEndsFirst(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	c := newCache()
	size := func() (n int) {
		for i := range c.shards {
			n += len(c.shards[i].entries)
		}
		return n
	}
	for i := range 2 * maxCached {
		c.put(cacheKey(fmt.Sprint(i)), Claims{ExpiresAt: now.Add(time.Hour)}, now)
	}
	if n := size(); n > maxCached || n < maxCached*9/10 {
		t.Errorf("it holds %d", n)
	}
	key := cacheKey(fmt.Sprint(2*maxCached - 1))
	if _, ok := c.get(key, now); !ok {
		t.Error("the newest was dropped")
	}
	if _, ok := c.get(key, now.Add(maxCachedFor)); ok {
		t.Error("an entry outlived its time")
	}
}

func TestAFullShardDropsEndedEntriesBeforeLivingOnes(t *testing.T) {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	s := &shard{entries: make(map[[32]byte]entry)}
	keyOf := func(i int) (k [32]byte) {
		binary.LittleEndian.PutUint64(k[:], uint64(i))
		return k
	}
	// Fewer entries than an eviction looks at: it sees all of them.
	for i := range evictionLooks - 1 {
		s.entries[keyOf(i)] = entry{until: now.Add(time.Duration(i+1) * time.Second)}
	}
	s.evict(now)
	if _, ok := s.entries[keyOf(0)]; ok || len(s.entries) != evictionLooks-2 {
		t.Errorf("the one nearest its end is kept, of %d", len(s.entries))
	}
	s.evict(now.Add(3 * time.Second))
	if _, ok := s.entries[keyOf(3)]; !ok || len(s.entries) != evictionLooks-4 {
		t.Errorf("not just the ended ones were dropped: %d are left", len(s.entries))
	}
}

package token

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	// maxCached is how many verified tokens are remembered: about 12 MB, and more
	// than one gateway has members at a time.
	maxCached = 65_536
	// maxCachedFor bounds how long a token is believed after its key was withdrawn.
	maxCachedFor = 5 * time.Minute
	// shards keeps 64 connections from waiting for one lock.
	shards = 64
	// maxPerShard spreads maxCached; the keys are hashes, so shards fill evenly.
	maxPerShard = maxCached / shards
	// evictionLooks is how many entries a full shard looks at for an ended one
	// before it drops the one nearest its end.
	evictionLooks = 8
	// usualLength is the length, in bytes, up to which a token is hashed without
	// allocating. Ours have about 450.
	usualLength = 512
)

// cache holds tokens that were verified. Only tokens with a good signature get
// in, so that a flood of forged ones displaces nothing.
type cache struct {
	shards [shards]shard
}

type shard struct {
	mu      sync.RWMutex
	entries map[[sha256.Size]byte]entry
}

type entry struct {
	claims Claims
	until  time.Time
}

func newCache() *cache {
	c := &cache{}
	for i := range c.shards {
		c.shards[i].entries = make(map[[sha256.Size]byte]entry)
	}
	return c
}

// cacheKey is a hash, so that a memory dump shows no tokens and every entry is of
// one size.
func cacheKey(raw string) [sha256.Size]byte {
	var room [usualLength]byte // on the stack
	return sha256.Sum256(append(room[:0], raw...))
}

func (c *cache) of(key [sha256.Size]byte) *shard { return &c.shards[int(key[0])%shards] }

func (c *cache) get(key [sha256.Size]byte, now time.Time) (Claims, bool) {
	s := c.of(key)
	s.mu.RLock()
	e, ok := s.entries[key]
	s.mu.RUnlock()
	if !ok || !now.Before(e.until) {
		return Claims{}, false
	}
	return e.claims, true
}

func (c *cache) put(key [sha256.Size]byte, claims Claims, now time.Time) {
	until := now.Add(maxCachedFor)
	if claims.ExpiresAt.Before(until) {
		until = claims.ExpiresAt
	}
	s := c.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, again := s.entries[key]; !again && len(s.entries) >= maxPerShard {
		s.evict(now)
	}
	s.entries[key] = entry{claims: claims, until: until}
}

// evict makes room for one, at least. Map order is random enough to choose by.
func (s *shard) evict(now time.Time) {
	var victim [sha256.Size]byte
	var earliest time.Time
	looked, ended := 0, false
	for key, e := range s.entries {
		if !now.Before(e.until) {
			delete(s.entries, key)
			ended = true
		} else if earliest.IsZero() || e.until.Before(earliest) {
			victim, earliest = key, e.until
		}
		if looked++; looked == evictionLooks {
			break
		}
	}
	if !ended {
		delete(s.entries, victim)
	}
}

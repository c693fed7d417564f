package gateway

import (
	"hash/maphash"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/time/rate"
)

// class is what a route costs; each has its own rate.
type class uint8

const (
	free class = iota // is not limited
	auth
	batch
	moderation
	read
	write
	classes
)

var classNames = [classes]string{"free", "auth", "batch", "moderation", "read", "write"}

// limit is a token bucket: so many a second, and so many at once.
type limit struct {
	perSecond rate.Limit
	burst     int
}

// limitOf is the rates of one user, or of one address where there is no user.
// The OpenAPI document says them in words.
var limitOf = [classes]limit{
	auth:       {5, 20},
	batch:      {5, 10},
	moderation: {20, 60},
	read:       {100, 200},
	write:      {50, 200},
}

const (
	// maxBuckets bounds the buckets that are kept, at about 200 bytes each.
	maxBuckets = 100_000
	// bucketShards keeps connections from waiting for one lock.
	bucketShards = 64
	// evictionLooks is how many buckets a full shard looks at for the fullest one.
	evictionLooks = 8
	// network6 is how much of an IPv6 address is one customer's.
	network6 = 64
)

// bucketKey is whose bucket it is: a user's, or an address's, so that no address
// can be taken for a user.
type bucketKey struct {
	class class
	by    uint8 // 0: address, 1: user
	id    [16]byte
}

// limiter holds the buckets. It is safe for concurrent use. What it forgets to
// make room is a bucket that is nearly full again, if it can find one.
type limiter struct {
	seed   maphash.Seed
	most   int // per shard
	shards [bucketShards]bucketShard
	// decimals are header values, ready made: an answer carries three of them.
	decimals [][]string
}

type bucketShard struct {
	mu      sync.Mutex
	buckets map[bucketKey]*rate.Limiter
}

func newLimiter(most int) *limiter {
	l := &limiter{seed: maphash.MakeSeed(), most: max(1, most/bucketShards)}
	for i := range l.shards {
		l.shards[i].buckets = make(map[bucketKey]*rate.Limiter)
	}
	largest := 0
	for _, c := range limitOf {
		largest = max(largest, c.burst)
	}
	l.decimals = make([][]string, largest+1)
	for n := range l.decimals {
		l.decimals[n] = []string{strconv.Itoa(n)}
	}
	return l
}

// take takes one token and tells the client in h how many are left. It returns 0,
// or how long to wait for the next one. user is uuid.Nil if there is none.
func (l *limiter) take(h http.Header, c class, user uuid.UUID, from netip.Addr, now time.Time) time.Duration {
	key := bucketKey{class: c, by: 1, id: user}
	if user == uuid.Nil {
		key.by, key.id = 0, networkOf(from)
	}
	b := l.bucket(key, now)
	ok := b.AllowN(now, 1)
	tokens := b.TokensAt(now)
	most := limitOf[c]
	left := min(max(0, int(tokens)), most.burst)
	untilFull := (float64(most.burst) - tokens) / float64(most.perSecond)
	h["Ratelimit-Limit"] = l.decimals[most.burst]
	h["Ratelimit-Remaining"] = l.decimals[left]
	h["Ratelimit-Reset"] = l.decimals[min(max(0, int(math.Ceil(untilFull))), len(l.decimals)-1)]
	if ok {
		return 0
	}
	wait := time.Duration((1 - tokens) / float64(most.perSecond) * float64(time.Second))
	return max(wait, time.Nanosecond)
}

func (l *limiter) bucket(key bucketKey, now time.Time) *rate.Limiter {
	s := &l.shards[maphash.Comparable(l.seed, key)%bucketShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.buckets[key]
	if b == nil {
		if len(s.buckets) >= l.most {
			s.evict(now)
		}
		most := limitOf[key.class]
		b = rate.NewLimiter(most.perSecond, most.burst)
		s.buckets[key] = b
	}
	return b
}

// evict forgets the fullest of some buckets: to forget a full one changes
// nothing. Map order is random enough to choose by.
func (s *bucketShard) evict(now time.Time) {
	var victim bucketKey
	fullest, looked := math.Inf(-1), 0
	for key, b := range s.buckets {
		if share := b.TokensAt(now) / float64(b.Burst()); share > fullest {
			victim, fullest = key, share
		}
		if looked++; looked == evictionLooks {
			break
		}
	}
	delete(s.buckets, victim)
}

// size is how many buckets are kept.
func (l *limiter) size() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += len(s.buckets)
		s.mu.Unlock()
	}
	return n
}

// networkOf is what an address counts as: an IPv4 address by itself, an IPv6
// address as its /64, since one customer has all of that.
func networkOf(from netip.Addr) [16]byte {
	if from.Is6() {
		p, err := from.Prefix(network6)
		if err != nil {
			return [16]byte{}
		}
		return p.Addr().As16()
	}
	if !from.IsValid() {
		return [16]byte{}
	}
	return from.As16()
}

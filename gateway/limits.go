package gateway

import (
	"context"
	"fmt"
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
	name      string
	perSecond rate.Limit
	burst     int
}

// arguments are takeScript's.
func (m limit) arguments() []string {
	each := time.Duration(float64(time.Second) / float64(m.perSecond))
	return []string{strconv.FormatInt(each.Microseconds(), 10), strconv.Itoa(m.burst)}
}

// limitOf is the rates of one user, or of one address where there is no user.
// The OpenAPI document says them in words.
var limitOf = [classes]limit{
	auth:       {"auth", 5, 20},
	batch:      {"batch", 5, 10},
	moderation: {"moderation", 20, 60},
	read:       {"read", 100, 200},
	write:      {"write", 50, 200},
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
// make room is a bucket that is nearly full again, if it can find one. Where there
// is a shared limiter, that one counts, and this one while it is away.
type limiter struct {
	seed   maphash.Seed
	most   int // per shard
	shared *sharedLimiter
	shards [bucketShards]bucketShard
	says   [classes]headers
}

// headers are the header values of a class, ready made: an answer carries five of
// them. RateLimit-Limit, -Remaining and -Reset are those of the drafts up to 7 of
// draft-ietf-httpapi-ratelimit-headers, which clients know; RateLimit-Policy and
// RateLimit those of the later ones.
type headers struct {
	most, policy []string
	decimals     [][]string   // by number
	state        [][][]string // by what is left, and seconds until all are there again
}

func headersOf(m limit) (h headers) {
	slowest := m.untilFull(0)
	h.most = []string{strconv.Itoa(m.burst)}
	h.policy = []string{fmt.Sprintf("%q;q=%d;w=%d", m.name, m.burst, slowest)}
	for n := range max(m.burst, slowest) + 1 {
		h.decimals = append(h.decimals, []string{strconv.Itoa(n)})
	}
	for left := range m.burst + 1 {
		var row [][]string
		for reset := range slowest + 1 {
			row = append(row, []string{fmt.Sprintf("%q;r=%d;t=%d", m.name, left, reset)})
		}
		h.state = append(h.state, row)
	}
	return h
}

// untilFull is in how many seconds, rounded up, a bucket with so many tokens is full.
func (m limit) untilFull(tokens float64) int {
	return max(0, int(math.Ceil((float64(m.burst)-tokens)/float64(m.perSecond))))
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
	for c := free + 1; c < classes; c++ {
		l.says[c] = headersOf(limitOf[c])
	}
	return l
}

// take takes one token and tells the client in h how many are left. It returns 0,
// or how long to wait for the next one. user is uuid.Nil if there is none.
func (l *limiter) take(ctx context.Context, h http.Header, c class, user uuid.UUID, from netip.Addr, now time.Time) time.Duration {
	key := bucketKey{class: c, by: 1, id: user}
	if user == uuid.Nil {
		key.by, key.id = 0, networkOf(from)
	}
	wait, tokens := l.count(ctx, key, now)
	most, says := limitOf[c], &l.says[c]
	left := min(max(0, int(tokens)), most.burst)
	reset := min(most.untilFull(tokens), most.untilFull(0))
	h["Ratelimit-Limit"] = says.most
	h["Ratelimit-Remaining"] = says.decimals[left]
	h["Ratelimit-Reset"] = says.decimals[reset]
	h["Ratelimit-Policy"] = says.policy
	h["Ratelimit"] = says.state[left][reset]
	return wait
}

// count takes one token of a bucket. It returns 0 or how long to wait, and how many
// tokens are left.
func (l *limiter) count(ctx context.Context, key bucketKey, now time.Time) (wait time.Duration, tokens float64) {
	most := limitOf[key.class]
	if l.shared != nil {
		if wait, untilFull, ok := l.shared.take(ctx, key); ok {
			// In whole microseconds: a token more is better than one too few.
			return wait, float64(most.burst) - math.Floor(untilFull.Seconds()*float64(most.perSecond)*1e4)/1e4
		}
	}
	b := l.bucket(key, now)
	ok := b.AllowN(now, 1)
	tokens = b.TokensAt(now)
	if ok {
		return 0, tokens
	}
	wait = time.Duration((1 - tokens) / float64(most.perSecond) * float64(time.Second))
	return max(wait, time.Nanosecond), tokens
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

// Package guess slows down whoever guesses passwords.
//
// Failed guesses are counted three times, and each count drains with time:
//
//   - of a login from an address: 5 at once, then one every 30 s;
//   - of an address, whatever the login: 100 at once, then one every 3 s;
//   - of a login, from wherever: 20 at once, then one a minute.
//
// From an address that the login's owner is known to use only the first counts, so
// that neither guesses from elsewhere nor a neighbour who guesses others' passwords
// lock the owner out, however many they are.
//
// It promises that
//   - a guess is counted before it is tried and given back if it was right, so that
//     many at once are no way round;
//   - a login that nobody has is counted like any other;
//   - memory is bounded: each count remembers the MaxRemembered keys that are
//     furthest from being forgotten, about, and forgets others first;
//   - who is right is never slowed down by having been wrong less often than that.
//
// Counts are those of one process: n instances allow n times as many guesses.
package guess

import (
	"net/netip"
	"sync"
	"time"
)

// MaxRemembered bounds the keys of each count, at about 100 bytes each.
const MaxRemembered = 100_000

// evictionLooks is how many keys a full count looks at for one to forget.
const evictionLooks = 8

// rate is how many may come at once, and after how long another may.
type rate struct {
	burst int
	every time.Duration
}

func ofPair() rate    { return rate{5, 30 * time.Second} }
func ofAddress() rate { return rate{100, 3 * time.Second} }
func ofLogin() rate   { return rate{20, time.Minute} }

// networkBits6 is how much of an IPv6 address is one client's.
const networkBits6 = 64

// Limiter counts. It is safe for concurrent use.
type Limiter struct {
	now func() time.Time

	mu        sync.Mutex
	pairs     count[pair]
	addresses count[netip.Addr]
	logins    count[string]
}

type pair struct {
	login string
	from  netip.Addr
}

// New makes a Limiter that reads the time from now.
func New(now func() time.Time) *Limiter {
	return &Limiter{now: now, pairs: newCount[pair](ofPair()), addresses: newCount[netip.Addr](ofAddress()), logins: newCount[string](ofLogin())}
}

// Guess is one try.
type Guess struct {
	// Login is whose password is guessed, in any form that is always the same.
	Login string
	// From is the address that it comes from. Those that are not known are one.
	From netip.Addr
	// Known says that the login's owner is known to use that address.
	Known bool
}

// Take counts a guess. If wait is positive nothing was counted, and the guess must
// not be tried before so long; unknown then says that Known would have allowed it.
func (l *Limiter) Take(g Guess) (wait time.Duration, unknown bool) {
	g = g.masked()
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	if wait = l.pairs.wait(pair{g.Login, g.From}, now); wait > 0 {
		return wait, false
	}
	if !g.Known {
		if wait = max(l.addresses.wait(g.From, now), l.logins.wait(g.Login, now)); wait > 0 {
			return wait, true
		}
		l.addresses.add(g.From, now)
		l.logins.add(g.Login, now)
	}
	l.pairs.add(pair{g.Login, g.From}, now)
	return 0, false
}

// GiveBack takes back the count of a guess that was right, or never tried.
func (l *Limiter) GiveBack(g Guess) {
	g = g.masked()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pairs.remove(pair{g.Login, g.From})
	if !g.Known {
		l.addresses.remove(g.From)
		l.logins.remove(g.Login)
	}
}

func (g Guess) masked() Guess {
	if g.From.Is6() {
		if p, err := g.From.Prefix(networkBits6); err == nil {
			g.From = p.Addr()
		}
	}
	return g
}

// count is the failed guesses of each key. What is kept of a key is when it will
// have been forgotten: each guess moves that on by rate.every.
type count[K comparable] struct {
	rate rate
	free map[K]time.Time
}

func newCount[K comparable](r rate) count[K] { return count[K]{rate: r, free: make(map[K]time.Time)} }

// wait is how long the next guess has to.
func (c *count[K]) wait(key K, now time.Time) time.Duration {
	full := now.Add(time.Duration(c.rate.burst-1) * c.rate.every)
	return max(0, c.free[key].Sub(full))
}

func (c *count[K]) add(key K, now time.Time) {
	free, known := c.free[key]
	if !known && len(c.free) >= MaxRemembered {
		c.forgetOne(now)
	}
	if free.Before(now) {
		free = now
	}
	c.free[key] = free.Add(c.rate.every)
}

func (c *count[K]) remove(key K) {
	if free, known := c.free[key]; known {
		c.free[key] = free.Add(-c.rate.every)
	}
}

// forgetOne makes room. Map order is random enough to choose by.
func (c *count[K]) forgetOne(now time.Time) {
	var victim K
	var earliest time.Time
	looked, forgotten := 0, false
	for key, free := range c.free {
		if !now.Before(free) {
			delete(c.free, key)
			forgotten = true
		} else if earliest.IsZero() || free.Before(earliest) {
			victim, earliest = key, free
		}
		if looked++; looked == evictionLooks {
			break
		}
	}
	if !forgotten {
		delete(c.free, victim)
	}
}

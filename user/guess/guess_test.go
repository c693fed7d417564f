package guess_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/meet5/backend/user/guess"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func from(n int) netip.Addr { return netip.AddrFrom4([4]byte{198, 51, byte(n >> 8), byte(n)}) }

// tries takes guesses until one has to wait, and returns how many went before.
func tries(l *guess.Limiter, g func(n int) guess.Guess) (n int, wait time.Duration) {
	for ; ; n++ {
		if wait, _ = l.Take(g(n)); wait > 0 {
			return n, wait
		}
	}
}

func TestEachCountAllowsSoManyAtOnceAndThenOneNowAndThen(t *testing.T) {
	for name, c := range map[string]struct {
		guess func(n int) guess.Guess
		burst int
		every time.Duration
	}{
		"a login from an address":         {func(int) guess.Guess { return guess.Guess{Login: "anna", From: from(1)} }, 5, 30 * time.Second},
		"a login from one of its own":     {func(int) guess.Guess { return guess.Guess{Login: "anna", From: from(1), Known: true} }, 5, 30 * time.Second},
		"any logins from an address":      {func(n int) guess.Guess { return guess.Guess{Login: fmt.Sprint(n), From: from(1)} }, 100, 3 * time.Second},
		"a login from any addresses":      {func(n int) guess.Guess { return guess.Guess{Login: "anna", From: from(n)} }, 20, time.Minute},
		"a login from nobody knows where": {func(int) guess.Guess { return guess.Guess{Login: "anna"} }, 5, 30 * time.Second},
		"a login from an IPv6 network": {func(n int) guess.Guess {
			return guess.Guess{Login: "anna", From: netip.MustParseAddr(fmt.Sprintf("2001:db8::%x", n+1))}
		}, 5, 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			at := &clock{start}
			l := guess.New(at.now)
			if n, wait := tries(l, c.guess); n != c.burst || wait != c.every {
				t.Fatalf("%d at once, then wait %v, want %d and %v", n, wait, c.burst, c.every)
			}
			at.at = at.at.Add(c.every - 1)
			if wait, _ := l.Take(c.guess(1000)); wait != 1 {
				t.Errorf("a moment too early: wait %v", wait)
			}
			at.at = at.at.Add(1)
			if n, _ := tries(l, func(n int) guess.Guess { return c.guess(2000 + n) }); n != 1 {
				t.Errorf("then %d", n)
			}
		})
	}
}

func TestGuessesFromElsewhereDoNotLockTheOwnerOut(t *testing.T) {
	l := guess.New((&clock{start}).now)
	tries(l, func(n int) guess.Guess { return guess.Guess{Login: "anna", From: from(n)} })
	home := guess.Guess{Login: "anna", From: from(999)}
	if wait, unknown := l.Take(home); wait == 0 || !unknown {
		t.Errorf("from an address that is not known: wait %v, %v", wait, unknown)
	}
	home.Known = true
	if wait, _ := l.Take(home); wait > 0 {
		t.Errorf("the owner has to wait %v", wait)
	}
	if n, _ := tries(l, func(int) guess.Guess { return home }); n != 4 {
		t.Errorf("an address that is known has %d guesses more, want 4", n)
	}
}

func TestANeighbourWhoGuessesDoesNotLockTheOwnerOut(t *testing.T) {
	l := guess.New((&clock{start}).now)
	tries(l, func(n int) guess.Guess { return guess.Guess{Login: fmt.Sprint(n), From: from(1)} })
	home := guess.Guess{Login: "anna", From: from(1)}
	if wait, unknown := l.Take(home); wait == 0 || !unknown {
		t.Errorf("an account that is not known there: wait %v, %v", wait, unknown)
	}
	home.Known = true
	if wait, _ := l.Take(home); wait > 0 {
		t.Errorf("the owner has to wait %v", wait)
	}
}

func BenchmarkTake(b *testing.B) {
	l := guess.New(time.Now)
	for n := range guess.MaxRemembered {
		l.Take(guess.Guess{Login: fmt.Sprint(n), From: from(n)})
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		g := guess.Guess{Login: "anna", From: from(n)}
		if wait, _ := l.Take(g); wait == 0 {
			l.GiveBack(g)
		}
	}
}

func TestWhoIsRightIsNeverSlowedDown(t *testing.T) {
	l := guess.New((&clock{start}).now)
	for range 1000 {
		g := guess.Guess{Login: "anna", From: from(1)}
		if wait, _ := l.Take(g); wait > 0 {
			t.Fatalf("wait %v", wait)
		}
		l.GiveBack(g)
	}
}

func TestManyAtOnceAreNoWayRound(t *testing.T) {
	l := guess.New((&clock{start}).now)
	var tried atomic.Int32
	var wg sync.WaitGroup
	for range 64 {
		wg.Go(func() {
			if wait, _ := l.Take(guess.Guess{Login: "anna", From: from(1)}); wait == 0 {
				tried.Add(1)
			}
		})
	}
	wg.Wait()
	if tried.Load() != 5 {
		t.Errorf("%d were tried", tried.Load())
	}
}

// Whatever happens, no more guesses fail in any time than the counts allow.
func TestNoOrderOfThingsAllowsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		at := &clock{start}
		l := guess.New(at.now)
		failed := make(map[string][]time.Time)
		for range rapid.IntRange(1, 300).Draw(t, "guesses") {
			at.at = at.at.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			g := guess.Guess{Login: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "login"), From: from(rapid.IntRange(1, 3).Draw(t, "from"))}
			if wait, _ := l.Take(g); wait > 0 {
				continue
			}
			if rapid.Bool().Draw(t, "right") {
				l.GiveBack(g)
				continue
			}
			key := g.Login + g.From.String()
			failed[key] = append(failed[key], at.at)
		}
		for key, times := range failed {
			for i := range times {
				for j := i; j < len(times); j++ {
					if most := 5 + int(times[j].Sub(times[i])/(30*time.Second)); j-i+1 > most {
						t.Fatalf("%s: %d failed within %v, at most %d may", key, j-i+1, times[j].Sub(times[i]), most)
					}
				}
			}
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	l := guess.New((&clock{start}).now)
	held := guess.Guess{Login: "held", From: netip.MustParseAddr("203.0.113.1")}
	tries(l, func(int) guess.Guess { return held })
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for n := range 3 * guess.MaxRemembered {
		l.Take(guess.Guess{Login: fmt.Sprintf("login-%032d", n), From: netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 96<<20 {
		t.Errorf("%d MB for three times as many as are remembered", grown>>20)
	}
	runtime.KeepAlive(l)
	if wait, _ := l.Take(held); wait == 0 {
		t.Error("who was furthest from being forgotten was forgotten first")
	}
}

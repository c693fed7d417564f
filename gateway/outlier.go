package gateway

import (
	"context"
	"log/slog"
	"time"
)

// Which instances are worse than the others, after Envoy's outlier detection
// (https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier).
// Its standard deviation needs five instances with many requests each; compared
// with the others' mean, two do.
const (
	// interval is what success rates are compared over, and how often.
	interval = 10 * time.Second
	// failuresInARow ejects an instance: no answer, or one of 5xx.
	failuresInARow = 5
	// rateVolume is how many answers of an interval a success rate needs.
	rateVolume = 100
	// rateGap ejects an instance whose success rate is so much below the mean of
	// the others.
	rateGap = 0.2
	// ejectBase is how long the first ejection takes, the second twice that, and so
	// on up to ejectMost. An interval since the last one ended takes one off again.
	ejectBase = 5 * time.Second
	ejectMost = time.Minute
)

// ejectionReason is why an instance was ejected.
type ejectionReason uint8

const (
	byFailures ejectionReason = iota
	bySuccessRate
	ejectionReasons
)

var ejectionReasonNames = [ejectionReasons]string{"failures", "success_rate"}

// succeeded and failed note what came of a request.
func (b *balancer) succeeded(i *instance) {
	i.good.Add(1)
	if i.streak.Load() != 0 {
		i.streak.Store(0)
	}
}

func (b *balancer) failed(i *instance) {
	i.bad.Add(1)
	if i.streak.Add(1) >= failuresInARow {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.eject(i, byFailures)
	}
}

// unreachable notes that an instance could not be connected to.
func (b *balancer) unreachable(i *instance) {
	i.unreachableUntil.Store(b.now().Add(passOver).UnixNano())
	b.failed(i)
	b.lookAgain()
}

// eject has an instance asked last for a while, unless half of them are already:
// what all of them fail at is not an instance's fault. The lock is held.
func (b *balancer) eject(i *instance, why ejectionReason) {
	now := b.now()
	set := *b.set.Load()
	out := 1
	for _, other := range set {
		if other.ejectedUntil.Load() > now.UnixNano() {
			if other == i {
				return
			}
			out++
		}
	}
	if 2*out > len(set) || i.gone.Load() {
		return
	}
	i.ejections++
	i.streak.Store(0)
	d := min(time.Duration(i.ejections)*ejectBase, ejectMost)
	i.calmSince = now.Add(d)
	i.ejectedUntil.Store(i.calmSince.UnixNano())
	b.ejected[why].Add(1)
	b.log.LogAttrs(context.Background(), slog.LevelWarn, "an instance is ejected",
		slog.String("instance", i.host), slog.String("reason", ejectionReasonNames[why]), slog.Duration("for", d))
}

// lookBack closes the intervals that are over.
func (b *balancer) lookBack(now time.Time) {
	due := b.nextInterval.Load()
	if now.UnixNano() < due {
		return
	}
	over := 1 + (now.UnixNano()-due)/int64(interval)
	if !b.nextInterval.CompareAndSwap(due, due+over*int64(interval)) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	set := *b.set.Load()
	for _, i := range set {
		for range min(over, windows) {
			copy(i.marks[:], i.marks[1:])
			i.marks[windows-1] = i.requests.Load()
		}
		for ; i.ejections > 0 && now.Sub(i.calmSince) >= interval; i.ejections-- {
			i.calmSince = i.calmSince.Add(interval)
		}
	}
	b.compareRates(set)
}

// compareRates ejects those who succeed much less often than the others.
func (b *balancer) compareRates(set []*instance) {
	type rated struct {
		*instance
		rate float64
	}
	var all []rated
	var sum float64
	for _, i := range set {
		good, bad := i.good.Swap(0), i.bad.Swap(0)
		if good+bad >= rateVolume {
			r := rated{i, float64(good) / float64(good+bad)}
			all, sum = append(all, r), sum+r.rate
		}
	}
	if len(all) < 2 {
		return
	}
	for _, r := range all {
		if others := (sum - r.rate) / float64(len(all)-1); others-r.rate > rateGap {
			b.eject(r.instance, bySuccessRate)
		}
	}
}

package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/token"
)

// passOver is for how long an instance that could not be connected to is asked
// only if no other is left.
const passOver = 5 * time.Second

var (
	errNone = errors.New("no instance is known")
	errFull = errors.New("every instance has as much under way as it may have")
)

// balancer knows the instances of a service and chooses one for a request: of two
// at random the one with less under way, or, for what a user writes, the one that
// their partition belongs to. Those that are unsound are asked last.
type balancer struct {
	byActor bool
	now     func() time.Time
	random  func() uint64
	log     *slog.Logger

	sources  []*source
	fixed    bool // no source is a name
	resolver *net.Resolver
	streams  bool // see RemoteOptions
	roots    *x509.CertPool
	every    time.Duration // between lookups
	known    chan struct{} // closed after the first lookup
	again    chan struct{} // an instance could not be connected to
	lookups  [2]atomic.Uint64

	set atomic.Pointer[[]*instance]
	// nextInterval is when the next one is to be looked back on, Unix ns.
	nextInterval atomic.Int64
	ejected      [ejectionReasons]atomic.Uint64

	mu      sync.Mutex // of changes to the set, of ejections and intervals
	leaving []*instance
}

func newBalancer(sources []*source, o RemoteOptions) *balancer {
	b := &balancer{byActor: o.ByActor, now: o.Clock, random: o.Random, log: o.Logger,
		sources: sources, fixed: true, resolver: o.Resolver, roots: o.RootCAs, streams: o.Streams, every: resolveEvery,
		known: make(chan struct{}), again: make(chan struct{}, 1)}
	if b.random == nil {
		b.random = rand.Uint64
	}
	if b.resolver == nil {
		b.resolver = net.DefaultResolver
	}
	b.nextInterval.Store(b.now().Add(interval).UnixNano())
	b.set.Store(&[]*instance{})
	for _, s := range sources {
		b.fixed = b.fixed && s.kind == ""
	}
	if b.fixed {
		b.resolve(context.Background()) // asks nobody
	}
	return b
}

// run looks names up until ctx ends.
func (b *balancer) run(ctx context.Context) {
	if b.fixed {
		<-ctx.Done()
		return
	}
	for {
		b.resolve(ctx)
		if !wait(ctx, nil, min(resolveLeast, b.every)) || !wait(ctx, b.again, max(0, b.every-resolveLeast)) {
			return
		}
	}
}

// wait waits for a time, or for sooner, which may be nil. It returns false if ctx
// has ended.
func wait(ctx context.Context, sooner <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-sooner:
	case <-t.C:
	}
	return ctx.Err() == nil
}

// resolve finds the instances anew. One caller at a time.
func (b *balancer) resolve(ctx context.Context) {
	var all []address
	for _, s := range b.sources {
		found, err := s.find(ctx, b.resolver, b.now())
		if ctx.Err() != nil {
			return
		}
		all = append(all, found...)
		if s.kind == "" {
			continue
		}
		if err == nil {
			b.lookups[0].Add(1)
			continue
		}
		b.lookups[1].Add(1)
		b.log.LogAttrs(ctx, slog.LevelWarn, "instances cannot be looked up",
			slog.Int("kept", len(found)), slog.Any("error", err))
	}
	all = union(all)
	if len(all) > maxInstances {
		b.log.LogAttrs(ctx, slog.LevelWarn, "there are more instances than are used",
			slog.Int("instances", len(all)), slog.Int("used", maxInstances))
		all = all[:maxInstances]
	}
	b.change(ctx, all)
	select {
	case <-b.known:
	default:
		close(b.known)
	}
}

// change makes the set what all says. Who stays keeps what is known of it; who
// leaves gets no new requests, and finishes those it has.
func (b *balancer) change(ctx context.Context, all []address) {
	b.mu.Lock()
	defer b.mu.Unlock()
	old := *b.set.Load()
	next := make([]*instance, 0, len(all))
	var came []*instance
	for _, a := range all {
		at := slices.IndexFunc(old, func(i *instance) bool { return i.host == a.host && i.scheme == a.scheme })
		if at >= 0 {
			next = append(next, old[at])
			continue
		}
		i := newInstance(a, b.resolver, b.roots, b.streams)
		i.share.Store(greatestShare(old))
		next, came = append(next, i), append(came, i)
	}
	if len(came) == 0 && len(next) == len(old) {
		return
	}
	b.set.Store(&next)
	b.leaving = slices.DeleteFunc(b.leaving, func(i *instance) bool { return !i.busy() })
	for _, i := range old {
		if !slices.Contains(next, i) {
			i.gone.Store(true)
			i.closeIfIdle()
			b.leaving = append(b.leaving, i)
		}
	}
	for _, i := range next { // what was before cannot be compared
		for w := range i.marks {
			i.marks[w] = i.requests.Load()
		}
	}
	if !b.fixed {
		b.log.LogAttrs(ctx, slog.LevelInfo, "the instances have changed",
			slog.Int("came", len(came)), slog.Int("left", len(old)+len(came)-len(next)), slog.Int("instances", len(next)))
	}
}

func greatestShare(of []*instance) uint64 {
	var most uint64
	for _, i := range of {
		most = max(most, i.share.Load())
	}
	return most
}

// draining is how many instances have left with requests under way.
func (b *balancer) draining() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, i := range b.leaving {
		if i.busy() {
			n++
		}
	}
	return n
}

// lookAgain has names looked up soon.
func (b *balancer) lookAgain() {
	if b.fixed {
		return
	}
	select {
	case b.again <- struct{}{}:
	default:
	}
}

// await waits until names have been looked up once.
func (b *balancer) await(ctx context.Context) {
	select {
	case <-b.known:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	select {
	case <-b.known:
	case <-ctx.Done():
	}
}

// noPartition is of requests that belong nowhere in particular.
const noPartition = -1

// partitionOf is the partition that decides where a request goes.
func (b *balancer) partitionOf(req *http.Request) int {
	if b.byActor && req.Method == http.MethodPost {
		if caller, ok := token.FromContext(req.Context()); ok {
			return events.PartitionOf(caller.Subject, events.ActivityPartitions)
		}
	}
	return noPartition
}

// choose takes room for a request at an untried instance; the caller gives it back
// with leave.
func (b *balancer) choose(k kind, partition int, tried []*instance) (*instance, error) {
	now := b.now()
	b.lookBack(now)
	var room [32]*instance // on the stack
	err := errNone
	for _, sound := range []bool{true, false} {
		left := room[:0]
		for _, i := range *b.set.Load() {
			if i.sound(now) == sound && !slices.Contains(tried, i) {
				left = append(left, i)
			}
		}
		if sound {
			welcomeBack(left)
		}
		for len(left) > 0 {
			at := b.best(left, k, partition)
			i := left[at]
			if i.enter(k) {
				i.share.Add(1)
				if partition == noPartition {
					i.requests.Add(1)
				}
				return i, nil
			}
			err = errFull
			left[at] = left[len(left)-1]
			left = left[:len(left)-1]
		}
	}
	return nil, fmt.Errorf("choose an instance: %w", err)
}

// welcomeBack gives those that were ejected the share of the others.
func welcomeBack(sound []*instance) {
	for _, i := range sound {
		if until := i.ejectedUntil.Load(); until != 0 && i.ejectedUntil.CompareAndSwap(until, 0) {
			i.share.Store(greatestShare(sound))
		}
	}
}

// best is the index of the one to ask: by weight, or the better of two at random.
func (b *balancer) best(of []*instance, k kind, partition int) int {
	n := uint64(len(of))
	if partition != noPartition {
		at := 0
		for i := range of {
			if of[i].weight[partition] > of[at].weight[partition] {
				at = i
			}
		}
		return at
	}
	if n == 1 {
		return 0
	}
	r := b.random()
	one := r % n
	two := (one + 1 + (r>>32)%(n-1)) % n
	x, y := of[one], of[two]
	lx, ly := x.load[k].Load(), y.load[k].Load()
	if ly < lx || ly == lx && y.share.Load() < x.share.Load() {
		return int(two) //nolint:gosec // less than n
	}
	return int(one) //nolint:gosec // less than n
}

// efficiency is 1 − (max − min) ÷ mean of the requests that the instances got by
// load within the last minute or so; 1 if there is nothing to compare.
func (b *balancer) efficiency() float64 {
	b.lookBack(b.now())
	b.mu.Lock()
	defer b.mu.Unlock()
	set := *b.set.Load()
	var least, most, sum uint64
	for at, i := range set {
		n := i.requests.Load() - i.marks[0]
		if at == 0 {
			least = n
		}
		least, most, sum = min(least, n), max(most, n), sum+n
	}
	if sum == 0 {
		return 1
	}
	return 1 - float64(most-least)*float64(len(set))/float64(sum)
}

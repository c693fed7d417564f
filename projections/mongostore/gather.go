package mongostore

import (
	"context"
	"sync"
	"time"

	"go.mongodb.org/mongo-driver/v2/mongo"
)

const (
	// smallCall is how many documents a call may be about to share a trip.
	smallCall = 256
	// fullTrip is how many documents a shared trip is about at most.
	fullTrip = 1024
	// trips is how many shared trips to a collection are under way at once.
	trips = 2
	// tripTimeout bounds a shared trip, which no caller's context ends.
	tripTimeout = 10 * time.Second
)

// gathering has small calls that come while others are under way share the next
// trip to the server. Partitions bring what is new side by side, each a few events
// at a time; a trip costs the server far more than what is in it, so that without
// this the read models would be as slow as there are partitions.
type gathering[A, R any] struct {
	size func(A) int
	// do makes one trip for several calls and returns a result for each.
	do func(ctx context.Context, all []A) ([]R, error)

	mu     sync.Mutex
	active int
	queue  []*gathered[A, R]
}

// gathered is one call.
type gathered[A, R any] struct {
	arg    A
	result R
	err    error
	done   chan struct{}
}

// call makes a call, alone or with others. If ctx ends first, it may still be made.
func (g *gathering[A, R]) call(ctx context.Context, arg A) (R, error) {
	if g.size(arg) > smallCall {
		results, err := g.do(ctx, []A{arg})
		if err != nil {
			var none R
			return none, err
		}
		return results[0], nil
	}
	c := &gathered[A, R]{arg: arg, done: make(chan struct{})}
	g.mu.Lock()
	g.queue = append(g.queue, c)
	if g.active < trips {
		g.active++
		go g.travel()
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.result, c.err
	case <-ctx.Done():
		var none R
		return none, ctx.Err()
	}
}

// travel makes trips until nothing waits.
func (g *gathering[A, R]) travel() {
	for calls := g.take(); calls != nil; calls = g.take() {
		err := g.trip(calls)
		if err != nil && len(calls) > 1 && !mongo.IsNetworkError(err) && !mongo.IsTimeout(err) {
			// One of them is to blame. Each stands by itself, so that only that one
			// is told.
			for _, c := range calls {
				c.err = g.trip([]*gathered[A, R]{c})
			}
		}
		for _, c := range calls {
			close(c.done)
		}
	}
}

func (g *gathering[A, R]) take() (calls []*gathered[A, R]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	n, size := 0, 0
	for n < len(g.queue) && (n == 0 || size+g.size(g.queue[n].arg) <= fullTrip) {
		size += g.size(g.queue[n].arg)
		n++
	}
	if n == 0 {
		g.active--
		return nil
	}
	calls, g.queue = g.queue[:n:n], g.queue[n:]
	return calls
}

func (g *gathering[A, R]) trip(calls []*gathered[A, R]) error {
	ctx, cancel := context.WithTimeout(context.Background(), tripTimeout)
	defer cancel()
	args := make([]A, len(calls))
	for i, c := range calls {
		args[i] = c.arg
	}
	results, err := g.do(ctx, args)
	for i, c := range calls {
		if c.err = err; err == nil {
			c.result = results[i]
		}
	}
	return err
}

package activity

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// catchUp reads a log to its end on behalf of many callers at once: however many
// ask, one reading is under way, and one more waits for it to end.
type catchUp struct {
	read    func(ctx context.Context) error
	timeout time.Duration

	mu      sync.Mutex
	running bool
	next    *round
}

// round is one reading that has not begun.
type round struct {
	done chan struct{}
	err  error
}

// wait returns once everything has been read that was in the log when it was
// called, or with an error after the timeout at the latest. A reading that began
// before the call does not count: it may have missed what the caller needs.
func (c *catchUp) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	r := c.join()
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return fmt.Errorf("catch up: %w", ctx.Err())
	}
}

func (c *catchUp) join() *round {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		c.next = &round{done: make(chan struct{})}
	}
	r := c.next
	if !c.running {
		c.running = true
		go c.run()
	}
	return r
}

// run reads until no one waits. Each reading ends by itself within the timeout,
// so that the goroutine outlives its callers by no more than that.
func (c *catchUp) run() {
	for {
		c.mu.Lock()
		r := c.next
		c.next = nil
		c.running = r != nil
		c.mu.Unlock()
		if r == nil {
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), c.timeout)
		r.err = c.read(ctx)
		cancel()
		close(r.done)
	}
}

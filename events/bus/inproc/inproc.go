// Package inproc carries Watermill messages within one process.
//
// Every subscription gets every message that is published to its topic while it
// lasts, from a queue of its own. It promises that
//   - Publish never waits for a reader;
//   - a subscription's messages keep the order in which they were published, and
//     one is in flight until Ack or Nack; a message that was nacked comes again,
//     after a pause that grows;
//   - a queue is bounded, and drops from its head when it is full, as the
//     broker's queues do: whoever must not miss anything reads the log.
//
// Readers share the bytes of a payload and must not change them.
package inproc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// Defaults of Config.
const (
	// DefaultCapacity is how many messages a subscription's queue holds.
	DefaultCapacity = 1024
	// DefaultMaxBytes is how many bytes of payload a subscription's queue holds.
	DefaultMaxBytes = 64 << 20
	// DefaultRedelivery is the pause before a nacked message comes again the
	// first time; it doubles up to DefaultMaxRedelivery.
	DefaultRedelivery    = 10 * time.Millisecond
	DefaultMaxRedelivery = time.Second
)

// ErrClosed says that the bus has been closed.
var ErrClosed = errors.New("closed")

// Config bounds the queues. A field that is not above zero has its default.
type Config struct {
	// Capacity and MaxBytes are how many messages, and bytes of payload, a
	// subscription's queue holds. The newest message is kept whatever its size.
	Capacity int
	MaxBytes int
	// Redelivery is the pause before a nacked message comes again the first
	// time; it doubles up to MaxRedelivery.
	Redelivery    time.Duration
	MaxRedelivery time.Duration
}

// Bus is a Watermill publisher and subscriber in one. It is safe for concurrent
// use.
type Bus struct {
	cfg     Config
	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	readers sync.WaitGroup
	dropped atomic.Uint64

	mu     sync.RWMutex
	closed bool
	topics map[string][]*subscription // a slice is replaced, never changed
}

// New makes a bus.
func New(cfg Config) *Bus {
	b := &Bus{cfg: cfg.withDefaults(), topics: make(map[string][]*subscription)}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	return b
}

func (c Config) withDefaults() Config {
	if c.Capacity <= 0 {
		c.Capacity = DefaultCapacity
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.Redelivery <= 0 {
		c.Redelivery = DefaultRedelivery
	}
	if c.MaxRedelivery <= 0 {
		c.MaxRedelivery = DefaultMaxRedelivery
	}
	c.MaxRedelivery = max(c.MaxRedelivery, c.Redelivery)
	return c
}

// Dropped is how many messages have been dropped from full queues, counted once
// for each queue.
func (b *Bus) Dropped() uint64 { return b.dropped.Load() }

// Publish puts the messages into the queues of the topic's subscriptions. They
// and their metadata must not be changed afterwards. With no subscription it
// does nothing. It fails only after Close.
func (b *Bus) Publish(topic string, messages ...*message.Message) error {
	b.mu.RLock()
	subs, closed := b.topics[topic], b.closed
	b.mu.RUnlock()
	if closed {
		return fmt.Errorf("publish to %s: %w", topic, ErrClosed)
	}
	for _, s := range subs {
		if n := s.queue.push(messages); n > 0 {
			b.dropped.Add(uint64(n)) //nolint:gosec // a count
		}
	}
	return nil
}

// Subscribe returns the messages that are published to the topic from now on,
// one at a time: the next comes when the one before has had its Ack. They go on
// until ctx ends or Close is called; then the channel is closed.
func (b *Bus) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s := &subscription{
		cfg:   &b.cfg,
		queue: newQueue(b.cfg.Capacity, b.cfg.MaxBytes),
		out:   make(chan *message.Message),
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, ErrClosed)
	}
	b.topics[topic] = append(slices.Clone(b.topics[topic]), s)
	ctx, cancel := context.WithCancel(ctx)
	unwatch := context.AfterFunc(b.ctx, cancel)
	b.readers.Go(func() {
		defer cancel()
		defer unwatch()
		s.run(ctx)
		b.leave(topic, s)
		close(s.out)
	})
	return s.out, nil
}

func (b *Bus) leave(topic string, s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	subs := slices.Clone(b.topics[topic])
	subs = slices.DeleteFunc(subs, func(x *subscription) bool { return x == s })
	if len(subs) == 0 {
		delete(b.topics, topic)
		return
	}
	b.topics[topic] = subs
}

// Close ends all subscriptions and waits until their channels are closed. What
// is still in their queues is gone. Closing again does no harm.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.cancel()
	b.readers.Wait()
	return nil
}

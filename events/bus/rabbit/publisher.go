package rabbit

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/meet5/backend/events/bus"
)

// Publisher is a Watermill publisher. It connects at the first Publish. It is
// safe for concurrent use.
type Publisher struct {
	cfg  Config
	log  *slog.Logger
	link *link

	unrouted atomic.Uint64

	mu     sync.Mutex
	closed bool
	calls  sync.WaitGroup // Publish and Send calls, and confirms that they gave up on

	laneMu sync.Mutex
	lane   *lane // the latest
}

// NewPublisher makes a publisher. It does no I/O; an error is a fault of cfg.
func NewPublisher(cfg Config) (*Publisher, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("rabbit publisher: %w", err)
	}
	l := newLink(&cfg, "publisher")
	return &Publisher{cfg: cfg, log: l.log, link: l}, nil
}

// Unrouted is how many messages no queue has taken.
func (p *Publisher) Unrouted() uint64 { return p.unrouted.Load() }

var _ bus.Sender = (*Publisher)(nil)

// Publish sends the messages in order and waits until the broker has confirmed
// them all. After an error some of them may have been sent, never one that
// stands behind one that was not. A message's context ends the wait for it.
func (p *Publisher) Publish(topic string, messages ...*message.Message) error {
	wait, err := p.Send(topic, messages...)
	if err != nil {
		return err
	}
	return wait()
}

// Send implements bus.Sender: it waits for nothing but room in the window.
func (p *Publisher) Send(topic string, messages ...*message.Message) (wait func() error, err error) {
	if len(messages) == 0 {
		return func() error { return nil }, nil
	}
	to := func(err error) error {
		if err != nil {
			return fmt.Errorf("publish to %s: %w", topic, err)
		}
		return nil
	}
	if err := p.begin(); err != nil {
		return nil, to(err)
	}
	b, err := p.send(topic, messages)
	if err != nil {
		p.calls.Done()
		return nil, to(err)
	}
	return func() error {
		defer p.calls.Done()
		return to(b.wait(messages))
	}, nil
}

// begin counts a call as begun, unless the publisher is closed.
func (p *Publisher) begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	p.calls.Add(1)
	return nil
}

func (p *Publisher) send(topic string, messages []*message.Message) (*batch, error) {
	r, err := p.cfg.route(topic)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if err := check(m); err != nil {
			return nil, err
		}
	}
	l, err := p.currentLane(messages[0].Context())
	if err != nil {
		return nil, err
	}
	if err := p.link.accepts(); err != nil {
		return nil, err
	}
	if err := l.prepare(r); err != nil {
		return nil, err
	}
	return l.send(r, messages)
}

// currentLane returns the lane of the connection that there is now, and opens
// one if need be.
func (p *Publisher) currentLane(ctx context.Context) (*lane, error) {
	conn, err := p.link.get(ctx)
	if err != nil {
		return nil, err
	}
	p.laneMu.Lock()
	defer p.laneMu.Unlock()
	if l := p.lane; l != nil && l.conn == conn && !l.ch.IsClosed() {
		return l, nil
	}
	l, err := openLane(p, conn)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	p.lane = l
	return l, nil
}

// Close waits until the calls that run have their confirms, or have made no
// progress for Config.Timeout, and ends the connection. Publish then fails with
// ErrClosed. Closing again does no harm.
func (p *Publisher) Close() error {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	// A call ends when it makes no progress for the timeout, so this wait ends.
	p.calls.Wait()
	p.link.close()
	return nil
}

package rabbit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// Subscriber is a Watermill subscriber. All its subscriptions share a
// connection, which is made at the first use. It is safe for concurrent use.
type Subscriber struct {
	cfg  Config
	log  *slog.Logger
	link *link

	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	rejected atomic.Uint64

	mu     sync.Mutex
	closed bool
	subs   sync.WaitGroup
}

// NewSubscriber makes a subscriber. It does no I/O; an error is a fault of cfg.
func NewSubscriber(cfg Config) (*Subscriber, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("rabbit subscriber: %w", err)
	}
	name := "subscriber"
	if cfg.Group != "" {
		name += " " + cfg.Group
	}
	s := &Subscriber{cfg: cfg, link: newLink(&cfg, name)}
	s.log = s.link.log
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// Rejected is how many messages Config.Check has refused.
func (s *Subscriber) Rejected() uint64 { return s.rejected.Load() }

// SubscribeInitialize declares the topic's exchange and, with a group, its
// queue, so that messages published from now on are kept for the group.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	err := s.initialize(topic)
	if err != nil {
		return fmt.Errorf("initialize subscription to %s: %w", topic, err)
	}
	return nil
}

func (s *Subscriber) initialize(topic string) error {
	r, err := s.cfg.route(topic)
	if err != nil {
		return err
	}
	if !s.enter() {
		return ErrClosed
	}
	defer s.subs.Done()
	conn, err := s.link.get(s.ctx)
	if err != nil {
		return err
	}
	defer s.link.bound(conn)()
	ch, err := conn.Channel()
	if err != nil {
		return explain(conn, fmt.Errorf("open channel: %w", err))
	}
	if s.cfg.Group == "" {
		err = declareExchange(ch, r)
	} else {
		_, err = s.cfg.declareQueue(ch, r)
	}
	return explain(conn, errors.Join(err, ch.Close()))
}

// Subscribe returns the topic's messages, one at a time: the next comes when the
// one before has had its Ack. They go on until ctx ends or Close is called; then
// the channel is closed, and what had no Ack will come again to the group.
//
// During an outage Subscribe succeeds, and messages come when it is over. It
// fails if ctx has ended, or if the broker refuses the queue: it may exist with
// other bounds.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	messages, err := s.subscribe(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("subscribe to %s: %w", topic, err)
	}
	return messages, nil
}

func (s *Subscriber) subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	r, err := s.cfg.route(topic)
	if err != nil {
		return nil, err
	}
	if !s.enter() {
		return nil, ErrClosed
	}
	sub := &subscription{
		Subscriber: s, topic: topic, route: r,
		out: make(chan *message.Message),
	}
	var cancel context.CancelFunc
	sub.ctx, cancel = context.WithCancel(ctx)
	unwatch := context.AfterFunc(s.ctx, cancel)
	end := func() {
		unwatch()
		cancel()
		s.subs.Done()
	}
	conn, err := s.link.get(sub.ctx)
	var first *consumer
	if err == nil {
		first, err = sub.open(conn)
	}
	if err != nil && !errors.Is(err, ErrUnavailable) {
		end()
		return nil, err
	}
	go func() {
		defer end()
		sub.run(first)
	}()
	return sub.out, nil
}

// enter counts a user of the connection in, if the subscriber is not closed.
func (s *Subscriber) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.subs.Add(1)
	return true
}

// Close ends all subscriptions and the connection, at the latest after a few
// times Config.Timeout. Closing again does no harm.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.subs.Wait()
	s.link.close()
	return nil
}

// explain marks an error that comes from the loss of the connection.
func explain(conn *amqp.Connection, err error) error {
	if err != nil && conn.IsClosed() {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
)

// stillBound is how long the queues of connections that have just ended may keep an
// exchange in use.
const stillBound = 10 * time.Second

// exchange is an exchange of a log, with the quorum queues of one group, as package
// rabbit declares them.
type exchange struct {
	cfg    rabbit.Config
	name   string
	queues [partitions]string
	ch     *amqp.Channel // to empty and delete them
}

// newExchange declares the exchange and the queues that a subscriber of the group
// would. Each call has names of its own.
func (s *site) newExchange(what string) (*exchange, error) {
	prefix := s.prefix + "-" + what
	x := &exchange{cfg: rabbit.Config{URI: s.AMQP, Topology: rabbit.PrefixTopology(prefix), Group: "bench"}, name: prefix + "." + events.ActivityLog}
	for p := range x.queues {
		x.queues[p] = fmt.Sprintf("%s.%d.bench", x.name, p)
	}
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	if x.ch, err = conn.Channel(); err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	s.onClose(func(ctx context.Context) error { return removeExchange(ctx, conn, x.name, x.queues[:]) })
	subscriber, err := rabbit.NewSubscriber(x.cfg)
	if err != nil {
		return nil, err
	}
	for p := range x.queues {
		if err := subscriber.SubscribeInitialize(topic(p)); err != nil {
			return nil, errors.Join(err, subscriber.Close())
		}
	}
	return x, subscriber.Close()
}

func topic(partition int) string { return bus.Topic(events.ActivityLog, partition) }

// dial connects to the broker until the work ends.
func (s *site) dial() (*amqp.Connection, error) {
	conn, err := amqp.DialConfig(s.AMQP, amqp.Config{Dial: amqp.DefaultDial(reachTimeout)})
	if err != nil {
		return nil, errors.New("--amqp: the broker cannot be reached") // the client's error may hold the password
	}
	s.onClose(func(context.Context) error { return conn.Close() })
	return conn, nil
}

// purge empties the queues.
func (x *exchange) purge() error {
	for _, q := range x.queues {
		if _, err := x.ch.QueuePurge(q, false); err != nil {
			return fmt.Errorf("purge %s: %w", q, err)
		}
	}
	return nil
}

// removeExchange deletes an exchange and what was bound to it. It is an error if
// something else still is, because that would stay.
func removeExchange(ctx context.Context, conn *amqp.Connection, name string, queues []string) error {
	ch, err := conn.Channel()
	if err != nil {
		return fmt.Errorf("open channel: %w", err)
	}
	for _, q := range queues { // one that is not there is no error
		if _, err := ch.QueueDelete(q, false, false, false); err != nil {
			return fmt.Errorf("delete queue %s: %w", q, err)
		}
	}
	for until := time.Now().Add(stillBound); ; {
		err := ch.ExchangeDelete(name, true, false)
		if err == nil {
			return ch.Close()
		}
		if ctx.Err() != nil || time.Now().After(until) {
			return fmt.Errorf("delete exchange %s: %w", name, err)
		}
		if ch, err = conn.Channel(); err != nil { // the refusal has closed the other
			return fmt.Errorf("open channel: %w", err)
		}
	}
}

// barePublisher is the client library used as directly as can be: one channel, with
// as many confirms outstanding as package rabbit lets there be.
type barePublisher struct {
	ch      *amqp.Channel
	to      *exchange
	pending []*amqp.DeferredConfirmation
}

func (s *site) newBarePublisher(to *exchange) (*barePublisher, error) {
	conn, err := s.dial()
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	return &barePublisher{ch: ch, to: to}, nil
}

// publish sends a commit, once there is room in the window.
func (b *barePublisher) publish(ctx context.Context, c events.Commit) error {
	if len(b.pending) == rabbit.DefaultWindow {
		if err := b.settle(ctx, 1); err != nil {
			return err
		}
	}
	confirm, err := b.ch.PublishWithDeferredConfirm(b.to.name, fmt.Sprint(c.Partition), true, false, amqp.Publishing{
		MessageId: uuid.Nil.String(), DeliveryMode: amqp.Persistent, Body: c.Bytes(),
	})
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	b.pending = append(b.pending, confirm)
	return nil
}

// settle awaits the oldest n confirms.
func (b *barePublisher) settle(ctx context.Context, n int) error {
	for _, c := range b.pending[:n] {
		if ok, err := c.WaitContext(ctx); err != nil || !ok {
			return errors.Join(errors.New("a message was not confirmed"), err)
		}
	}
	b.pending = b.pending[n:]
	return nil
}

// publishAll sends commits and awaits every confirm.
func (b *barePublisher) publishAll(ctx context.Context, commits []events.Commit, n int) error {
	for i := range n {
		if err := b.publish(ctx, commits[i%len(commits)]); err != nil {
			return err
		}
	}
	return b.settle(ctx, len(b.pending))
}

package bench

import (
	"context"
	"errors"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/meet5/backend/events/bus/rabbit"
)

// busQueued is how many messages a turn has, in all partitions. They fit into the
// queues' bounds.
const busQueued = 24_000

// errEndedEarly says that messages that were confirmed did not come.
var errEndedEarly = errors.New("the queue gave no more messages, though it was given more")

// busConsume is commits taken off the quorum queues, each acknowledged, in messages
// a second. Both sides find the same commits in their queues.
var busConsume = Work{
	Name:    "bus-consume",
	Ours:    "rabbit.Subscriber, commits of 100 events (15 kB), 16 partitions at once, an Ack a message",
	Limit:   "bare amqp091-go, a channel a queue, the same prefetch, an ack for every half of it",
	Figures: []Figure{{Unit: "messages/s", Target: Target{Ratio: 0.7}}},
	AMQP:    true,
	open: func(_ context.Context, s *site) (turn, error) {
		commits, err := busCommits()
		if err != nil {
			return nil, err
		}
		per := max(s.scaled(busQueued, 0)/partitions, 1)
		prepared := func(name string) (*exchange, func(context.Context) error, error) {
			x, err := s.newExchange(name)
			if err != nil {
				return nil, nil, err
			}
			p, err := s.newBarePublisher(x)
			return x, func(ctx context.Context) error { return p.publishAll(ctx, commits, per*partitions) }, err
		}
		ours, fillOurs, err := prepared("ours")
		if err != nil {
			return nil, err
		}
		bare, fillBare, err := prepared("bare")
		if err != nil {
			return nil, err
		}
		subscriber, err := rabbit.NewSubscriber(ours.cfg)
		if err != nil {
			return nil, err
		}
		s.onClose(func(context.Context) error { return subscriber.Close() })
		conn, err := s.dial()
		if err != nil {
			return nil, err
		}
		return alternate(
			func(ctx context.Context) (float64, error) {
				if err := fillOurs(ctx); err != nil {
					return 0, err
				}
				return consume(ctx, subscriber, per)
			},
			func(ctx context.Context) (float64, error) {
				if err := fillBare(ctx); err != nil {
					return 0, err
				}
				return consumeBare(ctx, conn, bare, per)
			},
		), nil
	},
}

// consume takes so many messages of each partition. Beginning and ending the
// subscriptions is off the clock.
func consume(ctx context.Context, s message.Subscriber, per int) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var from [partitions]<-chan *message.Message
	for p := range from {
		var err error
		if from[p], err = s.Subscribe(ctx, topic(p)); err != nil {
			return 0, err
		}
	}
	rate, err := clocked(func() (int, error) {
		return per * partitions, each(ctx, partitions, func(_ context.Context, p int) error {
			for range per {
				m, ok := <-from[p]
				if !ok {
					return errEndedEarly
				}
				m.Ack()
			}
			return nil
		})
	})
	cancel()
	for p := range from { // what is closed has told the broker of every Ack
		for m := range from[p] {
			err = errors.Join(err, fmt.Errorf("message %s is one too many", m.UUID))
			m.Ack()
		}
	}
	return rate, err
}

// consumeBare does the same with the client library alone.
func consumeBare(ctx context.Context, conn *amqp.Connection, of *exchange, per int) (rate float64, err error) {
	var from [partitions]<-chan amqp.Delivery
	for p := range from {
		ch, err := conn.Channel()
		if err != nil {
			return 0, fmt.Errorf("open channel: %w", err)
		}
		defer ch.Close() //nolint:errcheck,gocritic // there are 16, and what was acknowledged is what counts
		if err := ch.Qos(rabbit.DefaultPrefetch, 0, false); err != nil {
			return 0, fmt.Errorf("set prefetch: %w", err)
		}
		if from[p], err = ch.ConsumeWithContext(ctx, of.queues[p], "", false, false, false, false, nil); err != nil {
			return 0, fmt.Errorf("consume %s: %w", of.queues[p], err)
		}
	}
	return clocked(func() (int, error) {
		return per * partitions, each(ctx, partitions, func(_ context.Context, p int) error {
			for i := range per {
				d, ok := <-from[p]
				if !ok {
					return errEndedEarly
				}
				if (i+1)%(rabbit.DefaultPrefetch/2) == 0 || i == per-1 {
					if err := d.Ack(true); err != nil {
						return fmt.Errorf("ack: %w", err)
					}
				}
			}
			return nil
		})
	})
}

package rabbit

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// subscription hands out one topic's messages, over one consumer after another.
type subscription struct {
	*Subscriber
	topic string
	route route
	ctx   context.Context
	out   chan *message.Message
	told  time.Time // when a rejected message was logged last
}

// consumer is an AMQP channel that reads one queue.
type consumer struct {
	conn       *amqp.Connection
	ch         *amqp.Channel
	queue      string
	deliveries <-chan amqp.Delivery
	lost       <-chan *amqp.Error // ready once the channel is closed
	// acked is the latest delivery that has had its Ack, flushed the latest that
	// the broker knows of.
	acked, flushed uint64
	patience       *time.Timer
}

func (s *subscription) run(c *consumer) {
	defer close(s.out)
	for {
		if c != nil {
			s.consume(c)
			s.stop(c)
			if s.ctx.Err() == nil && !c.conn.IsClosed() {
				// Somebody deleted the queue, perhaps; do not fight over it.
				s.log.Warn("the broker ended the consumer, starting it again", "topic", s.topic)
				s.link.pause(s.ctx, 0)
			}
		}
		if c = s.reopen(); c == nil {
			return
		}
	}
}

// reopen tries until there is a consumer; nil says that the subscription ended.
func (s *subscription) reopen() *consumer {
	for failures := 0; s.ctx.Err() == nil; failures++ {
		conn, err := s.link.await(s.ctx)
		if err != nil {
			return nil
		}
		c, err := s.open(conn)
		if err == nil {
			s.log.Info("consuming again", "topic", s.topic)
			return c
		}
		if failures == 0 {
			s.log.Warn("cannot consume, trying again", "topic", s.topic, "error", err)
		}
		s.link.pause(s.ctx, failures)
	}
	return nil
}

// open declares what the subscription needs and begins to consume.
func (s *subscription) open(conn *amqp.Connection) (*consumer, error) {
	defer s.link.bound(conn)()
	c, err := s.tryOpen(conn)
	return c, explain(conn, err)
}

func (s *subscription) tryOpen(conn *amqp.Connection) (*consumer, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	c := &consumer{conn: conn, ch: ch, lost: ch.NotifyClose(make(chan *amqp.Error, 1)), patience: time.NewTimer(0)}
	if err := c.begin(s); err != nil {
		_ = ch.Close() // the first error tells more
		return nil, err
	}
	return c, nil
}

func (c *consumer) begin(s *subscription) error {
	queue, err := s.cfg.declareQueue(c.ch, s.route)
	if err != nil {
		return err
	}
	c.queue = queue
	if err := c.ch.Qos(s.cfg.Prefetch, 0, false); err != nil {
		return fmt.Errorf("set prefetch: %w", err)
	}
	if c.deliveries, err = c.ch.Consume(queue, "", false, false, false, false, nil); err != nil {
		return fmt.Errorf("consume %s: %w", queue, err)
	}
	return nil
}

// consume hands out messages until the consumer is lost or the subscription ends.
func (s *subscription) consume(c *consumer) {
	for s.ctx.Err() == nil {
		d, ok := s.next(c)
		if !ok || !s.deliver(c, &d) {
			return
		}
		c.acked = d.DeliveryTag
	}
}

// ackWithin is how long an Ack waits at most for others to be sent together with
// it. Each one that is sent costs a quorum queue a round of its log.
const ackWithin = 50 * time.Millisecond

// next waits for a delivery. Acks are sent for several deliveries at once: when half
// of the prefetch has had its own, or when none has come for ackWithin.
func (s *subscription) next(c *consumer) (d amqp.Delivery, ok bool) {
	if waiting := c.acked - c.flushed; waiting > 0 && waiting < uint64(max(1, s.cfg.Prefetch/2)) { //nolint:gosec // at least 1
		select {
		case d, ok = <-c.deliveries:
			return d, ok
		default:
		}
		c.patience.Reset(ackWithin)
		select {
		case d, ok = <-c.deliveries:
			c.patience.Stop()
			return d, ok
		case <-c.patience.C:
		case <-s.ctx.Done():
			return d, false
		}
	}
	c.flush()
	select {
	case d, ok = <-c.deliveries:
		return d, ok
	case <-s.ctx.Done():
		return d, false
	}
}

// flush tells the broker of the latest Ack. If that fails, the consumer is lost
// and the messages come again.
func (c *consumer) flush() {
	if c.acked > c.flushed {
		_ = c.ch.Ack(c.acked, true)
		c.flushed = c.acked
	}
}

// deliver hands out a message, again after each Nack, until it has its Ack. It
// says false if the consumer or the subscription ended before.
//
// A nacked message stays with us: given back to the broker, it would come again
// at once, and behind others.
func (s *subscription) deliver(c *consumer, d *amqp.Delivery) bool {
	pause := s.cfg.Redelivery
	for {
		switch s.attempt(c, d) {
		case done:
			return true
		case ended:
			return false
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-c.lost: //nolint:errcheck // why does not matter here
			return false
		case <-s.ctx.Done():
			return false
		}
		pause = min(2*pause, s.cfg.MaxRedelivery)
	}
}

type outcome int

const (
	done outcome = iota
	again
	ended
)

func (s *subscription) attempt(c *consumer, d *amqp.Delivery) outcome {
	m := received(d)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	m.SetContext(ctx)
	if s.cfg.Check != nil {
		if err := s.cfg.Check(s.topic, m); err != nil {
			s.reject(c, d, err)
			return done
		}
	}
	select {
	case s.out <- m:
	case <-c.lost: //nolint:errcheck // why does not matter here
		return ended // the broker will give it out again
	case <-s.ctx.Done():
		return ended
	}
	// Its reader has it now: even if the consumer is lost, nothing else may be
	// in flight before it has been answered.
	select {
	case <-m.Acked():
		return done
	case <-m.Nacked():
		return again
	case <-s.ctx.Done():
		select {
		case <-m.Acked():
			return done
		default:
			return ended
		}
	}
}

// tellEvery is how often a rejected message is logged at most: who sends one may
// send a thousand.
const tellEvery = time.Second

// reject is the end of a message that nobody can use. It is acknowledged, so that
// the broker forgets it: given back, it would come again for ever.
func (s *subscription) reject(c *consumer, d *amqp.Delivery, why error) {
	n := s.rejected.Add(1)
	if now := time.Now(); now.Sub(s.told) >= tellEvery {
		s.told = now
		s.log.Warn("a message is rejected; what is right is in the log", "exchange", d.Exchange, "key", d.RoutingKey,
			"queue", c.queue, "message", d.MessageId, "bytes", len(d.Body), "error", why, "rejected", n)
	}
}

// stop gives up the consumer. Closing the channel makes the broker take back, in
// their order, the messages that have had no Ack; to cancel the consumer and
// nack them would let the group's next member go first on those behind.
func (s *subscription) stop(c *consumer) {
	defer s.link.bound(c.conn)()
	c.flush()
	_ = c.ch.Close() // it may be closed already
}

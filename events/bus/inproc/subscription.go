package inproc

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// subscription hands out the messages of a queue.
type subscription struct {
	cfg   *Config
	queue *queue
	out   chan *message.Message
}

// run hands out messages until ctx ends.
func (s *subscription) run(ctx context.Context) {
	for ctx.Err() == nil {
		if m := s.queue.pop(); m != nil {
			s.deliver(ctx, m)
			continue
		}
		select {
		case <-s.queue.ready:
		case <-ctx.Done():
		}
	}
}

// deliver hands out a message, again after each Nack, until it has its Ack or
// ctx ends.
func (s *subscription) deliver(ctx context.Context, m *message.Message) {
	pause := s.cfg.Redelivery
	for !s.attempt(ctx, m) {
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, s.cfg.MaxRedelivery)
	}
}

// attempt says whether the message needs no other.
func (s *subscription) attempt(ctx context.Context, original *message.Message) bool {
	m := original.Copy() // its own Ack; the same payload
	mctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m.SetContext(mctx)
	select {
	case s.out <- m:
	case <-ctx.Done():
		return true
	}
	select {
	case <-m.Acked():
		return true
	case <-m.Nacked():
		return false
	case <-ctx.Done():
		return true
	}
}

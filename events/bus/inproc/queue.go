package inproc

import (
	"sync"

	"github.com/ThreeDotsLabs/watermill/message"
)

// queue is a bounded ring that drops its oldest message to make room. It grows
// as it fills, so that an idle subscription costs next to nothing.
type queue struct {
	capacity, maxBytes int
	ready              chan struct{} // holds a token when there may be a message

	mu    sync.Mutex
	ring  []*message.Message
	head  int // the oldest
	n     int
	bytes int
}

// firstRing is the size of a ring when the first message comes.
const firstRing = 16

func newQueue(capacity, maxBytes int) *queue {
	return &queue{capacity: capacity, maxBytes: maxBytes, ready: make(chan struct{}, 1)}
}

// push adds the messages and returns how many were dropped.
func (q *queue) push(messages []*message.Message) (dropped int) {
	q.mu.Lock()
	for _, m := range messages {
		for q.n > 0 && (q.n == q.capacity || q.bytes+len(m.Payload) > q.maxBytes) {
			q.take()
			dropped++
		}
		if q.n == len(q.ring) {
			q.grow()
		}
		q.ring[(q.head+q.n)%len(q.ring)] = m
		q.n++
		q.bytes += len(m.Payload)
	}
	q.mu.Unlock()
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return dropped
}

// pop returns the oldest message, or nil.
func (q *queue) pop() *message.Message {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.n == 0 {
		return nil
	}
	return q.take()
}

func (q *queue) take() *message.Message {
	m := q.ring[q.head]
	q.ring[q.head] = nil
	q.head = (q.head + 1) % len(q.ring)
	q.n--
	q.bytes -= len(m.Payload)
	return m
}

func (q *queue) grow() {
	ring := make([]*message.Message, min(max(2*q.n, firstRing), q.capacity))
	for i := range q.n {
		ring[i] = q.ring[(q.head+i)%len(q.ring)]
	}
	q.ring, q.head = ring, 0
}

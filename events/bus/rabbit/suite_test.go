package rabbit_test

import (
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"

	"github.com/meet5/backend/events/bus/bustest"
)

// features is what Watermill's suite may hold us to. A group's queue gives a
// message away once, in order, and keeps it while nobody reads. Messages that
// were in flight when a connection went come again.
var features = tests.Features{
	ConsumerGroups:      true,
	ExactlyOnceDelivery: false,
	GuaranteedOrder:     true,
	Persistent:          true,
}

// suitePubSub has queues that hold all of the suite's messages, and pauses after
// a Nack (it sends 300 of them) that do not make it wait for minutes.
func suitePubSub(t *testing.T, p *place, group string) (message.Publisher, message.Subscriber) {
	cfg := p.config(group)
	cfg.MaxLength = 100_000
	cfg.MaxRedelivery = 20 * time.Millisecond
	return newPublisher(t, cfg), newSubscriber(t, cfg)
}

// The suite's TestReconnect needs a command that restarts the broker, and reads
// what it published without a lock, which the race detector refuses. See
// TestNothingThatWasConfirmedIsLostAcrossCuts instead.
func TestWatermillSuite(t *testing.T) {
	p := newPlace(t)
	tests.TestPubSub(t, features,
		func(t *testing.T) (message.Publisher, message.Subscriber) {
			return suitePubSub(t, p, "suite")
		},
		func(t *testing.T, group string) (message.Publisher, message.Subscriber) {
			return suitePubSub(t, p, group)
		},
	)
}

// TestBus runs the suite on a group's quorum queue and on a lone subscription's
// classic one.
func TestBus(t *testing.T) {
	for name, group := range map[string]string{"group": "g", "alone": ""} {
		t.Run(name, func(t *testing.T) {
			const ahead = 10
			bustest.Run(t, ahead, func(t *testing.T) (message.Publisher, message.Subscriber) {
				cfg := newPlace(t).config(group)
				cfg.MaxLength = bustest.Capacity
				cfg.Prefetch = ahead
				return newPublisher(t, cfg), newSubscriber(t, cfg)
			})
		})
	}
}

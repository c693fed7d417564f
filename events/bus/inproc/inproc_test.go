package inproc_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/tests"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events/bus/bustest"
	"github.com/meet5/backend/events/bus/inproc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// early makes SubscribeInitialize begin the subscription that the next Subscribe
// hands out. Watermill's suite publishes between the two, and a bus without
// memory has nothing for those who come later.
type early struct {
	*inproc.Bus

	mu      sync.Mutex
	waiting map[string]<-chan *message.Message
}

func (e *early) SubscribeInitialize(topic string) error {
	messages, err := e.Bus.Subscribe(context.Background(), topic)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.waiting[topic] = messages
	return nil
}

func (e *early) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if messages, ok := e.waiting[topic]; ok {
		delete(e.waiting, topic)
		return messages, nil
	}
	return e.Bus.Subscribe(ctx, topic)
}

// TestWatermillSuite runs those parts of the suite that hold for messages that
// are given to whoever follows now. The others want messages that outlive a
// subscription (TestSubscribeCtx, TestContinueAfterErrors,
// TestContinueAfterSubscribeClose, TestConcurrentClose, TestReconnect), that are
// kept for newcomers (TestNewSubscriberReceivesOldMessages), or consumer groups.
func TestWatermillSuite(t *testing.T) {
	features := tests.Features{
		ExactlyOnceDelivery:   true,
		GuaranteedOrder:       true,
		RequireSingleInstance: true,
	}
	for name, test := range map[string]func(*testing.T, tests.TestContext, tests.PubSubConstructor){
		"ConcurrentSubscribe":               tests.TestConcurrentSubscribe,
		"ConcurrentSubscribeMultipleTopics": tests.TestConcurrentSubscribeMultipleTopics,
		"MessageCtx":                        tests.TestMessageCtx,
		"NoAck":                             tests.TestNoAck,
		"PublishSubscribe":                  tests.TestPublishSubscribe,
		"PublishSubscribeInOrder":           tests.TestPublishSubscribeInOrder,
		"PublisherClose":                    tests.TestPublisherClose,
		"ResendOnError":                     tests.TestResendOnError,
		"Topic":                             tests.TestTopic,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, tests.TestContext{TestID: tests.NewTestID(), Features: features},
				func(t *testing.T) (message.Publisher, message.Subscriber) {
					bus := inproc.New(inproc.Config{Capacity: 20_000}) // all that a test publishes
					t.Cleanup(func() { _ = bus.Close() })
					return bus, &early{Bus: bus, waiting: map[string]<-chan *message.Message{}}
				})
		})
	}
}

func TestBus(t *testing.T) {
	bustest.Run(t, 0, func(t *testing.T) (message.Publisher, message.Subscriber) {
		b := inproc.New(inproc.Config{Capacity: bustest.Capacity})
		t.Cleanup(func() { _ = b.Close() })
		return b, b
	})
}

func subscribe(t *testing.T, b *inproc.Bus, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := b.Subscribe(context.Background(), topic)
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func publish(t *testing.T, b *inproc.Bus, topic string, messages ...*message.Message) {
	t.Helper()
	if err := b.Publish(topic, messages...); err != nil {
		t.Fatal(err)
	}
}

func newBus(t *testing.T, cfg inproc.Config) *inproc.Bus {
	t.Helper()
	b := inproc.New(cfg)
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestSubscriptionsShareThePayloadAndNothingElse(t *testing.T) {
	b := newBus(t, inproc.Config{})
	one, two := subscribe(t, b, "a.1"), subscribe(t, b, "a.1")
	other := subscribe(t, b, "a.2")
	sent := message.NewMessage("id", []byte("payload"))
	sent.Metadata["k"] = "v"
	publish(t, b, "a.1", sent)

	m1, m2 := <-one, <-two
	if !m1.Equals(sent) || !m2.Equals(sent) {
		t.Errorf("got %v and %v, want %v", m1, m2, sent)
	}
	if &m1.Payload[0] != &sent.Payload[0] || &m2.Payload[0] != &sent.Payload[0] {
		t.Error("the payload was copied")
	}
	m1.Metadata["k"] = "changed"
	if m2.Metadata["k"] != "v" || sent.Metadata["k"] != "v" {
		t.Error("the metadata is shared")
	}
	m1.Nack()
	select {
	case <-m2.Nacked():
		t.Error("the Nack is shared")
	case <-sent.Nacked():
		t.Error("the Nack went to the publisher's message")
	case again := <-one:
		again.Ack()
	}
	m2.Ack()
	select {
	case m := <-other:
		t.Errorf("the other topic got %v", m)
	default:
	}
}

func TestPublishNeverWaitsForAReader(t *testing.T) {
	const capacity, n = 8, 100
	b := newBus(t, inproc.Config{Capacity: capacity})
	idle, busy := subscribe(t, b, "a.1"), subscribe(t, b, "a.1")
	for i := range n {
		publish(t, b, "a.1", message.NewMessage("", []byte{byte(i)}))
		m := <-busy
		if m.Payload[0] != byte(i) {
			t.Fatalf("the busy reader got message %d, want %d", m.Payload[0], i)
		}
		m.Ack()
	}
	// One message may be on its way out of the queue.
	if got := b.Dropped(); got != n-capacity && got != n-capacity-1 {
		t.Errorf("%d messages were dropped, want %d or one less", got, n-capacity)
	}
	for {
		m := <-idle
		m.Ack()
		if m.Payload[0] == n-1 {
			break
		}
	}
}

func TestTheNewestMessageIsKeptWhateverItsSize(t *testing.T) {
	b := newBus(t, inproc.Config{MaxBytes: 10})
	messages := subscribe(t, b, "a.1")
	publish(t, b, "a.1", message.NewMessage("first", nil))
	held := <-messages
	publish(t, b, "a.1",
		message.NewMessage("small", make([]byte, 10)),
		message.NewMessage("large", make([]byte, 11)))
	held.Ack()
	if m := <-messages; m.UUID != "large" {
		t.Errorf("got %s, want the large one", m.UUID)
	}
}

func TestASubscriptionEndsWithItsContext(t *testing.T) {
	b := newBus(t, inproc.Config{})
	ctx, cancel := context.WithCancel(context.Background())
	ending, err := b.Subscribe(ctx, "a.1")
	if err != nil {
		t.Fatal(err)
	}
	staying := subscribe(t, b, "a.1")
	publish(t, b, "a.1", message.NewMessage("1", nil), message.NewMessage("2", nil))
	held := <-ending
	cancel()
	<-held.Context().Done()
	if m, ok := <-ending; ok {
		t.Errorf("got %s after the end", m.UUID)
	}
	held.Ack() // too late, and harmless
	publish(t, b, "a.1", message.NewMessage("3", nil))
	for _, want := range []string{"1", "2", "3"} {
		m := <-staying
		if m.UUID != want {
			t.Errorf("got %s, want %s", m.UUID, want)
		}
		m.Ack()
	}
}

func TestCloseEndsEverything(t *testing.T) {
	b := newBus(t, inproc.Config{})
	idle := subscribe(t, b, "a.1")
	holding := subscribe(t, b, "a.2")
	nacking := subscribe(t, b, "a.3")
	for _, topic := range []string{"a.2", "a.3"} {
		publish(t, b, topic, message.NewMessage("1", nil))
	}
	held := <-holding
	(<-nacking).Nack()
	for range 2 {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	<-held.Context().Done()
	for _, messages := range []<-chan *message.Message{idle, holding, nacking} {
		if m, ok := <-messages; ok {
			t.Errorf("got %s after Close", m.UUID)
		}
	}
	if err := b.Publish("a.1", message.NewMessage("2", nil)); !errors.Is(err, inproc.ErrClosed) {
		t.Errorf("publish: got error %v, want ErrClosed", err)
	}
	if _, err := b.Subscribe(context.Background(), "a.1"); !errors.Is(err, inproc.ErrClosed) {
		t.Errorf("subscribe: got error %v, want ErrClosed", err)
	}
}

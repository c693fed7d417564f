package rabbit_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/meet5/backend/events/bus/rabbit"
)

func TestAMessageThatNobodyFollowsIsNoticed(t *testing.T) {
	p := newPlace(t)
	const topic = "log.1"

	lax := newPublisher(t, p.config("g"))
	publish(t, lax, topic, texts(7)...)
	if got := lax.Unrouted(); got != 7 {
		t.Errorf("%d messages were noticed, want 7", got)
	}

	cfg := p.config("g")
	cfg.RequireRoute = true
	strict := newPublisher(t, cfg)
	err := strict.Publish(topic, texts(3)...)
	if !errors.Is(err, rabbit.ErrUnroutable) || !strings.Contains(err.Error(), "3 of 3") {
		t.Errorf("got error %v, want ErrUnroutable for 3 of 3", err)
	}

	if err := newSubscriber(t, p.config("g")).SubscribeInitialize(topic); err != nil {
		t.Fatal(err)
	}
	publish(t, lax, topic, texts(5)...)
	publish(t, strict, topic, texts(5)...)
	if got := lax.Unrouted(); got != 7 {
		t.Errorf("%d messages were noticed in all, want 7", got)
	}
	if got := strict.Unrouted(); got != 3 {
		t.Errorf("%d messages of the strict publisher were noticed, want 3", got)
	}
}

// A return must reach the call whose message it was, with many calls under way.
func TestOnlyTheCallWithTheUnroutableMessageFails(t *testing.T) {
	p := newPlace(t)
	if err := newSubscriber(t, p.config("g")).SubscribeInitialize("log.1"); err != nil {
		t.Fatal(err)
	}
	cfg := p.config("g")
	cfg.RequireRoute = true
	cfg.Window = 20
	pub := newPublisher(t, cfg)
	var wg sync.WaitGroup
	for caller := range 8 {
		wg.Go(func() {
			for range 20 {
				followed := caller%2 == 0
				topic := map[bool]string{true: "log.1", false: "log.2"}[followed]
				err := pub.Publish(topic, texts(30)...)
				if followed && err != nil {
					t.Errorf("with a queue: %v", err)
				}
				if !followed && !errors.Is(err, rabbit.ErrUnroutable) {
					t.Errorf("without a queue: got error %v, want ErrUnroutable", err)
				}
			}
		})
	}
	wg.Wait()
	if got, want := pub.Unrouted(), uint64(4*20*30); got != want {
		t.Errorf("%d messages were noticed, want %d", got, want)
	}
}

func TestCallsLargerThanTheWindowShareIt(t *testing.T) {
	p := newPlace(t)
	sub := newSubscriber(t, p.config("g"))
	messages := subscribe(t, sub, "log.1")
	cfg := p.config("g")
	cfg.Window = 3
	pub := newPublisher(t, cfg)
	const callers, each = 8, 40
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			batch := make([]*message.Message, each)
			for i := range batch {
				batch[i] = message.NewMessage(fmt.Sprint(caller), []byte{byte(i)})
			}
			if err := pub.Publish("log.1", batch...); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	next := map[string]byte{}
	for range callers * each {
		m := receive(t, messages)
		if m.Payload[0] != next[m.UUID] {
			t.Fatalf("caller %s: got message %d, want %d", m.UUID, m.Payload[0], next[m.UUID])
		}
		next[m.UUID]++
		m.Ack()
	}
}

func TestPublishFailsAtOnceDuringAnOutageAndWorksAfterIt(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	cfg.Window = 10
	pub := newPublisher(t, cfg)
	publish(t, pub, "log.1", texts(25)...)

	px.cut(-1)
	until(t, "an outage", func() error {
		if err := pub.Publish("log.1", text("lost")); !errors.Is(err, rabbit.ErrUnavailable) {
			return fmt.Errorf("publish gave %w", err)
		}
		return nil
	})
	<-px.refused // from now on the outage is known
	// A call that waited for the broker, or one that kept a place of the window,
	// would show in so many: the first in hours, the second for ever.
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 1000 {
				if err := pub.Publish("log.1", texts(3)...); !errors.Is(err, rabbit.ErrUnavailable) {
					t.Errorf("during an outage: got error %v, want ErrUnavailable", err)
					return
				}
			}
		})
	}
	wg.Wait()

	px.cut(0)
	until(t, "after the outage", func() error { return pub.Publish("log.1", texts(100)...) })
}

func TestAnOutageAtTheStartIsLikeAnyOther(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	px.cut(-1)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	pub := newPublisher(t, cfg)
	if err := pub.Publish("log.1", text("a")); !errors.Is(err, rabbit.ErrUnavailable) {
		t.Fatalf("got error %v, want ErrUnavailable", err)
	}
	px.cut(0)
	until(t, "after the outage", func() error { return pub.Publish("log.1", text("a")) })
}

// A broker that neither answers nor hangs up: the network lost its way, or the
// broker reads nothing because its memory is full.
func TestASilentBrokerHoldsNobodyUpForEver(t *testing.T) {
	big := make([]*message.Message, 8) // more than the sockets on the way take
	for i := range big {
		big[i] = message.NewMessage("", make([]byte, 8<<20))
	}
	for name, c := range map[string]struct {
		topic    string
		messages []*message.Message
		want     error
	}{
		"awaiting confirms":   {"log.1", texts(5), rabbit.ErrUnconfirmed},
		"awaiting the window": {"log.1", texts(50), rabbit.ErrUnconfirmed},
		"writing":             {"log.1", big, rabbit.ErrUnavailable},
		"declaring":           {"other.1", texts(1), rabbit.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPlace(t)
			px := newProxy(t, p.url)
			cfg := p.config("g")
			cfg.URI = px.uri(t, p.url)
			cfg.Window = 10
			cfg.Timeout = 200 * time.Millisecond
			pub := newPublisher(t, cfg)
			until(t, "a connection within so short a time", func() error { return pub.Publish("log.1", text("a")) })

			px.stall(true)
			if err := pub.Publish(c.topic, c.messages...); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want %v", err, c.want)
			}
			// From here on, not even a connection can be had.
			until(t, "an outage", func() error {
				if err := pub.Publish("log.1", text("a")); !errors.Is(err, rabbit.ErrUnavailable) {
					return fmt.Errorf("publish gave %w", err)
				}
				return nil
			})
			px.stall(false)
			until(t, "when the broker speaks again", func() error { return pub.Publish("log.1", texts(100)...) })
		})
	}
}

func TestABrokerThatTakesNoMessagesIsLeftAlone(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	pub := newPublisher(t, cfg)
	publish(t, pub, "log.1", text("a"))

	px.tell(connectionBlocked("low on memory"))
	until(t, "the broker is known to take nothing", func() error {
		err := pub.Publish("log.1", text("b"))
		if !errors.Is(err, rabbit.ErrUnavailable) || !strings.Contains(err.Error(), "low on memory") {
			return fmt.Errorf("publish gave %w", err)
		}
		return nil
	})
	px.tell(connectionUnblocked())
	until(t, "the broker takes messages again", func() error { return pub.Publish("log.1", text("c")) })
}

func TestAMessagesContextEndsTheWait(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	cfg.Window = 10
	pub := newPublisher(t, cfg)
	publish(t, pub, "log.1", text("a"))

	px.stall(true)
	gone := errors.New("the caller has gone")
	for range 3 { // more than fit into the window
		ctx, cancel := context.WithTimeoutCause(context.Background(), 500*time.Millisecond, gone)
		messages := texts(6)
		for _, m := range messages {
			m.SetContext(ctx)
		}
		if err := pub.Publish("log.1", messages...); !errors.Is(err, gone) {
			t.Errorf("got error %v, want the context's cause", err)
		}
		// What has ended already is not sent at all.
		if err := pub.Publish("log.1", messages...); !errors.Is(err, gone) {
			t.Errorf("got error %v, want the context's cause", err)
		}
		cancel()
	}
	px.stall(false)
	// The places that were given up are free again.
	publish(t, pub, "log.1", texts(100)...)
	if got := pub.Unrouted(); got != 1+10+100 {
		t.Errorf("%d messages were sent, want 111: one, a full window, and a hundred", got)
	}
}

func TestPublishSurvivesTheLossOfItsExchange(t *testing.T) {
	p := newPlace(t)
	pub := newPublisher(t, p.config("g"))
	publish(t, pub, "log.1", text("a"))
	conn, ch := dial(t, p.url)
	defer conn.Close()
	exchange, _ := p.topology("log.1")
	if err := ch.ExchangeDelete(exchange, false, false); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish("log.1", text("b")); err == nil {
		t.Fatal("published to an exchange that does not exist")
	}
	until(t, "with the exchange declared again", func() error { return pub.Publish("log.1", text("c")) })
}

func TestWhatTheBrokerWouldChokeOnIsRefusedAlone(t *testing.T) {
	p := newPlace(t)
	pub := newPublisher(t, p.config("g"))
	long := strings.Repeat("x", 300)
	withMetadata := func(k, v string) *message.Message {
		m := text("a")
		m.Metadata[k] = v
		return m
	}
	for name, bad := range map[string]struct {
		topic   string
		message *message.Message
	}{
		"a long UUID":          {"log.1", message.NewMessage(long, nil)},
		"a long metadata key":  {"log.1", withMetadata(long, "v")},
		"much metadata":        {"log.1", withMetadata("k", strings.Repeat("v", 100_000))},
		"a large payload":      {"log.1", message.NewMessage("id", make([]byte, 17<<20))},
		"no topic":             {"", text("a")},
		"a wildcard topic":     {"log.#", text("a")},
		"a long routing key":   {"log." + long, text("a")},
		"a long exchange name": {long + ".1", text("a")},
	} {
		if err := pub.Publish(bad.topic, text("good"), bad.message); err == nil {
			t.Errorf("%s: no error", name)
		}
		// Nothing of the call was sent, and the connection is as it was.
		publish(t, pub, "log.2", text("good"))
	}
	if got := pub.Unrouted(); got != 8 {
		t.Errorf("%d messages were sent, want 8", got)
	}
	publish(t, pub, "log.1")
}

func TestAClosedPublisherSaysSo(t *testing.T) {
	p := newPlace(t)
	for name, use := range map[string]func(*rabbit.Publisher){
		"never used": func(*rabbit.Publisher) {},
		"used":       func(pub *rabbit.Publisher) { publish(t, pub, "log.1", text("a")) },
	} {
		pub := newPublisher(t, p.config("g"))
		use(pub)
		for range 2 {
			if err := pub.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
		if err := pub.Publish("log.1", text("b")); !errors.Is(err, rabbit.ErrClosed) {
			t.Errorf("%s: got error %v, want ErrClosed", name, err)
		}
	}
}

func TestEveryFaultOfAConfigurationIsReported(t *testing.T) {
	_, err := rabbit.NewPublisher(rabbit.Config{
		URI: "amqp://user:secret%@host", Group: "a.b",
		Window: -1, Prefetch: 1 << 20, MaxLength: -1, MaxLengthBytes: -1, DeliveryLimit: -1,
		Timeout: -1, Redelivery: -1, MaxRedelivery: -1,
	})
	if err == nil {
		t.Fatal("no error")
	}
	for _, field := range []string{
		"URI", "Group", "Window", "Prefetch", "MaxLength", "MaxLengthBytes", "DeliveryLimit",
		"Timeout", "Redelivery", "MaxRedelivery",
	} {
		if !strings.Contains(err.Error(), field+": ") {
			t.Errorf("the error does not name %s: %v", field, err)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error tells the password: %v", err)
	}
	if _, err := rabbit.NewSubscriber(rabbit.Config{}); err == nil || !strings.Contains(err.Error(), "URI: is missing") {
		t.Errorf("got error %v, want one that says that URI is missing", err)
	}
}

func TestPrefixTopology(t *testing.T) {
	for topic, want := range map[string][2]string{
		"activity.3":   {"meet5.activity", "3"},
		"a.b.12":       {"meet5.a.b", "12"},
		"plain":        {"meet5", "plain"},
		"ends-in-dot.": {"meet5", "ends-in-dot."},
		".3":           {"meet5", ".3"},
	} {
		exchange, key := rabbit.PrefixTopology("meet5")(topic)
		if exchange != want[0] || key != want[1] {
			t.Errorf("%s: got %s %s, want %s", topic, exchange, key, want)
		}
	}
}

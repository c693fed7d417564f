package rabbit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/meet5/backend/events/bus/rabbit"
)

func TestNothingThatWasConfirmedIsLostAcrossCuts(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	cfg.MaxLength = 100_000
	pub, sub := newPublisher(t, cfg), newSubscriber(t, cfg)
	messages := subscribe(t, sub, "log.1")

	const callers, each, batch, cuts = 8, 60, 5, 6
	var work sync.WaitGroup
	cutAt := make(chan struct{}, cuts)
	for caller := range callers {
		work.Go(func() {
			for i := range each {
				if caller == 0 && i%(each/cuts) == 0 {
					cutAt <- struct{}{}
				}
				group := make([]*message.Message, batch)
				for j := range group {
					group[j] = text(fmt.Sprintf("%d-%d-%d", caller, i, j))
				}
				until(t, "publish", func() error { return pub.Publish("log.1", group...) })
			}
		})
	}
	work.Go(func() {
		for range cuts {
			<-cutAt
			px.cut(2)
		}
	})
	got := map[string]bool{}
	for len(got) < callers*each*batch {
		m := receive(t, messages)
		got[string(m.Payload)] = true
		m.Ack()
	}
	work.Wait()
}

func TestAnotherMemberOfTheGroupTakesOverInOrder(t *testing.T) {
	p := newPlace(t)
	first, second := newSubscriber(t, p.config("g")), newSubscriber(t, p.config("g"))
	one := subscribe(t, first, "log.1")
	two := subscribe(t, second, "log.1")
	pub := newPublisher(t, p.config("g"))
	const n = 200 // more than a prefetch
	publish(t, pub, "log.1", texts(n)...)
	for i := range 50 {
		receiveText(t, one, fmt.Sprint(i)).Ack()
	}
	held := receiveText(t, one, "50")
	select {
	case m := <-two:
		t.Fatalf("the second member got %q while the first was there", m.Payload)
	default:
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-held.Context().Done():
	default:
		t.Error("the message in flight does not know that its subscription has ended")
	}
	for i := 50; i < n; i++ {
		receiveText(t, two, fmt.Sprint(i)).Ack()
	}
}

func TestGroupsAndLoneSubscriptionsEachGetEverything(t *testing.T) {
	p := newPlace(t)
	var followers []<-chan *message.Message
	for _, group := range []string{"a", "b", "", ""} {
		followers = append(followers, subscribe(t, newSubscriber(t, p.config(group)), "log.1"))
	}
	lone := newSubscriber(t, p.config(""))
	followers = append(followers, subscribe(t, lone, "log.1"), subscribe(t, lone, "log.1"))
	publish(t, newPublisher(t, p.config("")), "log.1", texts(10)...)
	for i, messages := range followers {
		for j := range 10 {
			m := receive(t, messages)
			if want := fmt.Sprint(j); string(m.Payload) != want {
				t.Fatalf("follower %d got %q, want %q", i, m.Payload, want)
			}
			m.Ack()
		}
	}
}

func TestALoneSubscriptionLeavesNothingBehind(t *testing.T) {
	p := newPlace(t)
	cfg := p.config("")
	cfg.RequireRoute = true
	pub, sub := newPublisher(t, cfg), newSubscriber(t, cfg)
	if err := sub.SubscribeInitialize("log.1"); err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish("log.1", text("a")); !errors.Is(err, rabbit.ErrUnroutable) {
		t.Fatalf("before it: got error %v, want ErrUnroutable", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	messages, err := sub.Subscribe(ctx, "log.1")
	if err != nil {
		t.Fatal(err)
	}
	publish(t, pub, "log.1", text("b"))
	cancel()
	ends(t, messages)
	until(t, "after it", func() error {
		if err := pub.Publish("log.1", text("c")); !errors.Is(err, rabbit.ErrUnroutable) {
			return fmt.Errorf("publish gave %w, want ErrUnroutable", err)
		}
		return nil
	})
}

func TestAllSubscriptionsShareAConnection(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	sub := newSubscriber(t, cfg)
	var all []<-chan *message.Message
	for i := range 16 {
		all = append(all, subscribe(t, sub, fmt.Sprintf("log.%d", i)))
	}
	if got := px.accepted(); got != 1 {
		t.Errorf("%d connections for 16 subscriptions, want 1", got)
	}
	// They come back together, too.
	px.cut(3)
	pub := newPublisher(t, p.config("g"))
	for i, messages := range all {
		publish(t, pub, fmt.Sprintf("log.%d", i), text("a"))
		receiveText(t, messages, "a").Ack()
	}
	if got := px.accepted(); got != 2 {
		t.Errorf("%d connections with one cut, want 2", got)
	}
}

// What the broker adds to a message that comes again, and what other programs
// put in, is neither metadata nor a reason to stumble.
func TestForeignHeadersAreNotMetadata(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	messages := subscribe(t, newSubscriber(t, cfg), "log.1")

	conn, ch := dial(t, p.url)
	defer conn.Close()
	exchange, key := p.topology("log.1")
	if err := ch.Publish(exchange, key, true, false, amqp.Publishing{
		Headers: amqp.Table{
			"m-name": "value", "m-number": int64(7), "traceparent": "00-1",
			"x-death": []any{amqp.Table{"count": int64(3)}}, "nothing": nil,
		},
		Body: []byte("a"),
	}); err != nil {
		t.Fatal(err)
	}
	check := func(m *message.Message) {
		t.Helper()
		if len(m.Metadata) != 1 || m.Metadata.Get("name") != "value" {
			t.Errorf("got metadata %v, want name: value alone", m.Metadata)
		}
		if m.UUID != "" || string(m.Payload) != "a" {
			t.Errorf("got message %q %q, want no UUID and a", m.UUID, m.Payload)
		}
	}
	held := receive(t, messages)
	check(held)
	// Cut off in flight, it comes again, with x-delivery-count; but only when its
	// reader has answered for the first.
	px.cut(0)
	held.Ack()
	again := receive(t, messages)
	check(again)
	again.Ack()
}

func TestMetadataArrives(t *testing.T) {
	p := newPlace(t)
	messages := subscribe(t, newSubscriber(t, p.config("g")), "log.1")
	sent := text("a")
	sent.Metadata = message.Metadata{"": "empty key", "x-y": "z", "m-n": "ö", "empty": ""}
	publish(t, newPublisher(t, p.config("g")), "log.1", sent)
	if got := receive(t, messages); !got.Equals(sent) {
		t.Errorf("got %v, want %v", got.Metadata, sent.Metadata)
	}
}

func TestSubscribeDuringAnOutageBeginsWhenItIsOver(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	px.cut(-1)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	sub := newSubscriber(t, cfg)
	messages := subscribe(t, sub, "log.1")
	if err := sub.SubscribeInitialize("log.1"); !errors.Is(err, rabbit.ErrUnavailable) {
		t.Errorf("initialize: got error %v, want ErrUnavailable", err)
	}
	px.cut(0)
	until(t, "initialize after the outage", func() error { return sub.SubscribeInitialize("log.1") })
	publish(t, newPublisher(t, p.config("g")), "log.1", text("a"))
	receiveText(t, messages, "a").Ack()
}

func TestASubscriptionEndsDuringAnOutage(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	sub := newSubscriber(t, cfg)
	ctx, cancel := context.WithCancel(context.Background())
	messages, err := sub.Subscribe(ctx, "log.1")
	if err != nil {
		t.Fatal(err)
	}
	others := subscribe(t, sub, "log.2")
	px.cut(-1)
	<-px.refused
	cancel()
	ends(t, messages)
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	ends(t, others)
}

func TestASubscriptionEndsWithASilentBroker(t *testing.T) {
	p := newPlace(t)
	px := newProxy(t, p.url)
	cfg := p.config("g")
	cfg.URI = px.uri(t, p.url)
	cfg.Timeout = 200 * time.Millisecond
	sub := newSubscriber(t, cfg)
	var messages <-chan *message.Message
	until(t, "a subscription within so short a time", func() (err error) {
		messages, err = sub.Subscribe(context.Background(), "log.1")
		return err
	})
	px.stall(true)
	if err := sub.SubscribeInitialize("log.2"); !errors.Is(err, rabbit.ErrUnavailable) {
		t.Errorf("initialize: got error %v, want ErrUnavailable", err)
	}
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	ends(t, messages)
}

func TestAQueueThatIsDeletedIsDeclaredAgain(t *testing.T) {
	p := newPlace(t)
	messages := subscribe(t, newSubscriber(t, p.config("g")), "log.1")
	conn, ch := dial(t, p.url)
	defer conn.Close()
	exchange, key := p.topology("log.1")
	if _, err := ch.QueueDelete(exchange+"."+key+".g", false, false, false); err != nil {
		t.Fatal(err)
	}
	cfg := p.config("g")
	cfg.RequireRoute = true
	pub := newPublisher(t, cfg)
	until(t, "a queue again", func() error { return pub.Publish("log.1", text("a")) })
	receiveText(t, messages, "a").Ack()
}

func TestAQueueWithOtherBoundsIsRefused(t *testing.T) {
	p := newPlace(t)
	subscribe(t, newSubscriber(t, p.config("g")), "log.1")
	cfg := p.config("g")
	cfg.MaxLength = 5
	other := newSubscriber(t, cfg)
	var refused *amqp.Error
	if _, err := other.Subscribe(context.Background(), "log.1"); !errors.As(err, &refused) || refused.Code != amqp.PreconditionFailed {
		t.Errorf("got error %v, want a failed precondition", err)
	}
	// The connection is still good for others.
	subscribe(t, other, "log.2")
}

func TestAClosedSubscriberSaysSo(t *testing.T) {
	p := newPlace(t)
	for name, use := range map[string]func(*rabbit.Subscriber){
		"never used": func(*rabbit.Subscriber) {},
		"used":       func(sub *rabbit.Subscriber) { subscribe(t, sub, "log.1") },
	} {
		sub := newSubscriber(t, p.config("g"))
		use(sub)
		for range 2 {
			if err := sub.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
		if _, err := sub.Subscribe(context.Background(), "log.1"); !errors.Is(err, rabbit.ErrClosed) {
			t.Errorf("%s: subscribe: got error %v, want ErrClosed", name, err)
		}
		if err := sub.SubscribeInitialize("log.1"); !errors.Is(err, rabbit.ErrClosed) {
			t.Errorf("%s: initialize: got error %v, want ErrClosed", name, err)
		}
	}
}

func TestSubscribeWithAContextThatHasEnded(t *testing.T) {
	p := newPlace(t)
	sub := newSubscriber(t, p.config("g"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	messages, err := sub.Subscribe(ctx, "log.1")
	if err == nil {
		ends(t, messages)
	} else if !errors.Is(err, context.Canceled) {
		t.Errorf("got error %v, want context.Canceled", err)
	}
	for _, topic := range []string{"", "log.*"} {
		if _, err := sub.Subscribe(context.Background(), topic); err == nil {
			t.Errorf("subscribed to %q", topic)
		}
	}
}

// Acks are sent for several messages at once. When a subscription ends, the
// broker knows of all of them.
func TestWhatWasAckedDoesNotComeAgain(t *testing.T) {
	p := newPlace(t)
	pub := newPublisher(t, p.config("g"))
	sub := newSubscriber(t, p.config("g"))
	if err := sub.SubscribeInitialize("log.1"); err != nil {
		t.Fatal(err)
	}
	const n = 300
	publish(t, pub, "log.1", texts(n)...)
	var got []string
	for len(got) < n {
		ctx, cancel := context.WithCancel(context.Background())
		messages, err := sub.Subscribe(ctx, "log.1")
		if err != nil {
			t.Fatal(err)
		}
		for range 7 {
			if len(got) == n {
				break
			}
			m := receive(t, messages)
			got = append(got, string(m.Payload))
			m.Ack()
			<-m.Context().Done() // the subscription has seen the Ack
		}
		cancel()
		ends(t, messages)
	}
	for i, s := range got {
		if s != fmt.Sprint(i) {
			t.Fatalf("message %d is %s: %s came again or was lost", i, s, slices.Compact(got)[i])
		}
	}
}

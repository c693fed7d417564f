package rabbit_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/rabbit"
)

// journal is a log that a test reads while others write.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) logger() *slog.Logger { return slog.New(slog.NewTextHandler(j, nil)) }

func (j *journal) count(what string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Count(j.text.String(), what)
}

// says waits until something was logged.
func (j *journal) says(t *testing.T, what string) {
	t.Helper()
	until(t, "a line about "+what, func() error {
		if j.count(what) == 0 {
			return errors.New("it is not logged")
		}
		return nil
	})
}

func commit(t *testing.T, partition int, first uint64) *message.Message {
	t.Helper()
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	c, err := events.Encode("log", partition, first, at, uuid.UUID{1}, []events.Event{{
		ID: uuid.UUID{2}, Type: events.ProfileVisited, Stream: uuid.UUID{3}, OccurredAt: at, Data: []byte(`{}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return bus.Message(c)
}

// TestWhatIsNoCommitIsRejectedOnce: nothing that others send holds up what comes
// after it, or comes again.
func TestWhatIsNoCommitIsRejectedOnce(t *testing.T) {
	for name, group := range map[string]string{"a group's queue": "g", "a queue alone": ""} {
		t.Run(name, func(t *testing.T) {
			var logged journal
			p := newPlace(t)
			cfg := p.config(group)
			cfg.Check, cfg.Logger = bus.Check, logged.logger()
			sub, pub := newSubscriber(t, cfg), newPublisher(t, cfg)
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			messages, err := sub.Subscribe(ctx, "log.1")
			if err != nil {
				t.Fatal(err)
			}
			later := commit(t, 1, 3)
			later.Payload[3]++ // the version of the format
			publish(t, pub, "log.1", message.NewMessage("garbage", []byte("hello")), commit(t, 1, 1), later, commit(t, 2, 1),
				message.NewMessage("nothing", nil), commit(t, 1, 2))
			for first := uint64(1); first <= 2; first++ {
				m := receive(t, messages)
				if c, err := bus.Commit(m); err != nil || c.First != first || c.Partition != 1 {
					t.Fatalf("got %+v (%v), want commit %d", c, err, first)
				}
				m.Ack()
				<-m.Context().Done()
			}
			if n := sub.Rejected(); n != 4 {
				t.Errorf("%d messages were rejected, want 4", n)
			}
			for _, what := range []string{"exchange=" + p.prefix + ".log", "key=1", "queue=" + p.prefix + ".log.1." + group, "message=garbage", "bytes=5", "no commit header"} {
				if logged.count(what) == 0 {
					t.Errorf("%q is not logged:\n%s", what, logged.text.String())
				}
			}
			cancel()
			ends(t, messages)
			if group == "" {
				return
			}
			// Another member of the group finds nothing of it.
			again := subscribe(t, newSubscriber(t, cfg), "log.1")
			publish(t, pub, "log.1", commit(t, 1, 3))
			if c, err := bus.Commit(receive(t, again)); err != nil || c.First != 3 {
				t.Errorf("got %+v (%v), want commit 3", c, err)
			}
		})
	}
}

// says checks that an error has all of it.
func says(t *testing.T, err error, what ...string) {
	t.Helper()
	if !errors.Is(err, rabbit.ErrOtherArguments) {
		t.Errorf("%v, want ErrOtherArguments", err)
		return
	}
	for _, w := range what {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%v does not say %q", err, w)
		}
	}
}

func TestAQueueWithOtherArgumentsIsNamedWithTheWayOut(t *testing.T) {
	p := newPlace(t)
	cfg := p.config("g")
	cfg.MaxLength = 5
	first := newSubscriber(t, cfg)
	if err := first.SubscribeInitialize("log.1"); err != nil {
		t.Fatal(err)
	}
	sub := newSubscriber(t, p.config("g"))
	queue := p.prefix + ".log.1.g"
	_, err := sub.Subscribe(context.Background(), "log.1")
	says(t, err, "queue "+queue, "x-max-length", "received '10000' but current is '5'", "rabbitmqctl delete_queue "+queue, "another prefix")
	says(t, sub.SubscribeInitialize("log.1"), queue)
	subscribe(t, sub, "log.2") // nothing else is held up

	conn, ch := dial(t, p.url)
	defer conn.Close()
	if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	messages := subscribe(t, sub, "log.1")
	publish(t, newPublisher(t, p.config("g")), "log.1", text("a"))
	receiveText(t, messages, "a").Ack()
}

// TestAQueueThatIsReplacedIsWaitedForCalmly: a subscription that runs says so once
// and goes on when the other queue is gone.
func TestAQueueThatIsReplacedIsWaitedForCalmly(t *testing.T) {
	var logged journal
	p := newPlace(t)
	cfg := p.config("g")
	cfg.Logger = logged.logger()
	messages := subscribe(t, newSubscriber(t, cfg), "log.1")
	queue := p.prefix + ".log.1.g"
	until(t, "a queue of another kind", func() error {
		conn, ch := dial(t, p.url)
		defer conn.Close()
		if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
			return err
		}
		_, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
		return err
	})
	logged.says(t, "rabbitmqctl delete_queue "+queue)
	conn, ch := dial(t, p.url)
	defer conn.Close()
	if _, err := ch.QueueDelete(queue, false, false, false); err != nil {
		t.Fatal(err)
	}
	logged.says(t, "consuming again")
	publish(t, newPublisher(t, p.config("g")), "log.1", text("a"))
	receiveText(t, messages, "a").Ack()
	if n := logged.count("delete_queue"); n != 1 {
		t.Errorf("it is logged %d times", n)
	}
}

func TestAnExchangeOfAnotherTypeIsNamedWithTheWayOut(t *testing.T) {
	p := newPlace(t)
	exchange := p.prefix + ".log"
	conn, ch := dial(t, p.url)
	defer conn.Close()
	if err := ch.ExchangeDeclare(exchange, amqp.ExchangeDirect, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	pub := newPublisher(t, p.config("g"))
	for range 3 { // the later ones do not ask the broker
		says(t, pub.Publish("log.1", text("a")), "exchange "+exchange, "type", "direct", "rabbitmqadmin exchanges delete --name "+exchange)
	}
	publish(t, pub, "other.1", text("a"))
	_, err := newSubscriber(t, p.config("g")).Subscribe(context.Background(), "log.1")
	says(t, err, exchange)
	if err := ch.ExchangeDelete(exchange, false, false); err != nil {
		t.Fatal(err)
	}
	until(t, "publishing again", func() error { return pub.Publish("log.1", text("a")) })
}

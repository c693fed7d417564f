package rabbit_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/meet5/backend/events/bus/rabbit"
)

// The benchmarks take turns with the bare client, chunk by chunk, on queues of
// the same kind, and report both rates and their ratio: a busy machine slows
// both.

const (
	benchTopic = "bench.0"
	// benchChunk is how many messages a turn has.
	benchChunk = 4000
)

// The sizes of a commit of one event and of a hundred.
var sizes = []struct {
	name  string
	bytes int
}{{"250B", 250}, {"25kB", 25_000}}

func BenchmarkPublish(b *testing.B) {
	for _, size := range sizes {
		// 16 callers are the partitions of a log.
		for _, c := range []struct{ callers, batch int }{{1, benchChunk}, {1, 1000}, {16, 100}, {16, 10}} {
			b.Run(fmt.Sprintf("%s/%d callers of %d", size.name, c.callers, c.batch), func(b *testing.B) {
				payload := make([]byte, size.bytes)
				bare := newBarePublisher(b)
				place := newPlace(b)
				declare(b, place)
				ours := newPublisher(b, benchConfig(place))
				turns(b, func(b *testing.B) {
					bare.publish(b, payload)
				}, func(b *testing.B) {
					publishConcurrently(b, ours, payload, c.callers, c.batch)
				})
			})
		}
	}
}

func publishConcurrently(b *testing.B, pub *rabbit.Publisher, payload []byte, callers, batch int) {
	batches := make(chan struct{}, benchChunk/batch)
	for range cap(batches) {
		batches <- struct{}{}
	}
	close(batches)
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for range batches {
				messages := make([]*message.Message, batch)
				for i := range messages {
					messages[i] = message.NewMessage("m", payload)
				}
				if err := pub.Publish(benchTopic, messages...); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// BenchmarkConsume has the bare client Ack each message, with the same prefetch.
func BenchmarkConsume(b *testing.B) {
	for _, size := range sizes {
		b.Run(size.name, func(b *testing.B) {
			// Each side publishes its own chunk, off the clock.
			payload := make([]byte, size.bytes)
			bare := newBarePublisher(b)
			place := newPlace(b)
			declare(b, place)
			ours, sub := newPublisher(b, benchConfig(place)), newSubscriber(b, benchConfig(place))
			var total [2]time.Duration
			for b.Loop() {
				bare.publish(b, payload)
				total[0] += bare.consume(b)

				publishConcurrently(b, ours, payload, 1, benchChunk)
				ctx, cancel := context.WithCancel(context.Background())
				began := time.Now()
				messages, err := sub.Subscribe(ctx, benchTopic)
				if err != nil {
					b.Fatal(err)
				}
				for range benchChunk {
					m := <-messages
					m.Ack()
				}
				total[1] += time.Since(began)
				cancel()
				if _, ok := <-messages; ok {
					b.Fatal("a message too many")
				}
			}
			report(b, total)
		})
	}
}

// turns runs a chunk of each and reports the rates.
func turns(b *testing.B, bare, ours func(*testing.B)) {
	var total [2]time.Duration
	for b.Loop() {
		for i, f := range []func(*testing.B){bare, ours} {
			began := time.Now()
			f(b)
			total[i] += time.Since(began)
		}
	}
	report(b, total)
}

func report(b *testing.B, total [2]time.Duration) {
	n := float64(b.N * benchChunk)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(n/total[0].Seconds(), "bare-msg/s")
	b.ReportMetric(n/total[1].Seconds(), "ours-msg/s")
	b.ReportMetric(total[0].Seconds()/total[1].Seconds(), "ours/bare")
}

// benchConfig has queues that hold a chunk.
func benchConfig(p *place) rabbit.Config {
	cfg := p.config("g")
	cfg.MaxLengthBytes = 256 << 20
	return cfg
}

// declare declares the queue of the group "g".
func declare(b *testing.B, p *place) {
	b.Helper()
	if err := newSubscriber(b, benchConfig(p)).SubscribeInitialize(benchTopic); err != nil {
		b.Fatal(err)
	}
}

// barePublisher is the client library used as directly as can be.
type barePublisher struct {
	conn                 *amqp.Connection
	ch                   *amqp.Channel
	exchange, key, queue string
}

func newBarePublisher(b *testing.B) *barePublisher {
	b.Helper()
	place := newPlace(b)
	declare(b, place)
	p := &barePublisher{}
	p.conn, p.ch = dial(b, place.url)
	b.Cleanup(func() { _ = p.conn.Close() })
	if err := p.ch.Confirm(false); err != nil {
		b.Fatal(err)
	}
	p.exchange, p.key = place.topology(benchTopic)
	p.queue = p.exchange + "." + p.key + ".g"
	return p
}

// publish keeps the window full.
func (p *barePublisher) publish(b *testing.B, payload []byte) {
	var pending []*amqp.DeferredConfirmation
	for range benchChunk {
		if len(pending) == rabbit.DefaultWindow {
			pending[0].Wait()
			pending = pending[1:]
		}
		c, err := p.ch.PublishWithDeferredConfirm(p.exchange, p.key, true, false, amqp.Publishing{
			MessageId: "m", DeliveryMode: amqp.Persistent, Body: payload,
		})
		if err != nil {
			b.Fatal(err)
		}
		pending = append(pending, c)
	}
	for _, c := range pending {
		if !c.Wait() {
			b.Fatal("not confirmed")
		}
	}
}

func (p *barePublisher) consume(b *testing.B) time.Duration {
	began := time.Now()
	ch, err := p.conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	defer ch.Close()
	if err := ch.Qos(rabbit.DefaultPrefetch, 0, false); err != nil {
		b.Fatal(err)
	}
	deliveries, err := ch.Consume(p.queue, "", false, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	for range benchChunk {
		d := <-deliveries
		if err := d.Ack(false); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(began)
}

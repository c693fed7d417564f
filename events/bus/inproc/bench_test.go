package inproc_test

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/meet5/backend/events/bus/inproc"
)

// BenchmarkFanOut publishes to 1 and to 20 subscriptions that Ack at once, on
// our bus and on Watermill's gochannel, which keeps no order and starts
// goroutines for each message. An operation is a message that all have acked.
// The publisher waits for its readers every window, so that nothing is dropped.
func BenchmarkFanOut(b *testing.B) {
	const window = 256
	for _, followers := range []int{1, 20} {
		for _, bus := range []struct {
			name string
			open func() interface {
				message.Publisher
				message.Subscriber
			}
		}{
			{"inproc", func() interface {
				message.Publisher
				message.Subscriber
			} {
				return inproc.New(inproc.Config{})
			}},
			{"gochannel", func() interface {
				message.Publisher
				message.Subscriber
			} {
				return gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: window}, watermill.NopLogger{})
			}},
		} {
			b.Run(fmt.Sprintf("%d followers/%s", followers, bus.name), func(b *testing.B) {
				ps := bus.open()
				var acked, readers sync.WaitGroup
				for range followers {
					messages, err := ps.Subscribe(context.Background(), "log.1")
					if err != nil {
						b.Fatal(err)
					}
					readers.Go(func() {
						for m := range messages {
							m.Ack()
							acked.Done()
						}
					})
				}
				payload := make([]byte, 25_000)
				b.ReportAllocs()
				n := 0
				for b.Loop() {
					acked.Add(followers)
					if err := ps.Publish("log.1", message.NewMessage("id", payload)); err != nil {
						b.Fatal(err)
					}
					if n++; n%window == 0 {
						acked.Wait()
					}
				}
				acked.Wait()
				if err := ps.Close(); err != nil {
					b.Fatal(err)
				}
				readers.Wait()
			})
		}
	}
}

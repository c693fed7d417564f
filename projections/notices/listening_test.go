package notices

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
)

// counted is a bus that counts who listens to it.
type counted struct {
	message.Subscriber
	listeners chan struct{}
}

func (c counted) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	messages := make(chan *message.Message)
	c.listeners <- struct{}{}
	context.AfterFunc(ctx, func() {
		<-c.listeners
		close(messages)
	})
	return messages, nil
}

func TestTheBusIsListenedToWhileSomebodyIsConnected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &Hub{opened: make(chan struct{}), streams: make(map[uuid.UUID][]*Stream)}
		bus := counted{listeners: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { // as a subscription does
			defer close(done)
			for ctx.Err() == nil {
				messages, err := (listening{bus, h}).Subscribe(ctx, "activity.0")
				if err != nil {
					return
				}
				for range messages {
					t.Error("a message that nobody sent")
				}
			}
		}()
		open := func() *Stream {
			t.Helper()
			s, _, err := h.enter(uuid.New())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		listens := func(want int, when string) {
			t.Helper()
			synctest.Wait()
			if got := len(bus.listeners); got != want {
				t.Errorf("%s: %d listen to the bus, want %d", when, got, want)
			}
		}
		listens(0, "before anybody came")
		first := open()
		listens(1, "with the first")
		second := open()
		first.Close()
		time.Sleep(3 * lookEvery)
		listens(1, "with the second alone")
		second.Close()
		second = open()
		time.Sleep(3 * lookEvery)
		listens(1, "with one who came back at once")
		second.Close()
		time.Sleep(3 * lookEvery)
		listens(0, "long after the last has gone")
		open()
		listens(1, "with one who comes later")
		cancel()
		<-done
		listens(0, "at the end")
	})
}

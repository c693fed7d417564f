package notices

import (
	"context"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
)

// lookEvery is how often it is looked whether anybody is connected still.
const lookEvery = 15 * time.Second

// listening is the bus while somebody is connected. Every message on it costs the broker
// and this process something, a fifth of all that a small machine can do; while nobody is
// there to be told, the hub goes by the log alone, which it looks at once a second.
type listening struct {
	message.Subscriber
	hub *Hub
}

// Subscribe waits until somebody is connected. The messages end within lookEvery of when
// the last one has gone.
func (l listening) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	for {
		open, opened := l.hub.listeners()
		if open > 0 {
			break
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	messages, err := l.Subscriber.Subscribe(ctx, topic)
	if err != nil {
		cancel()
		return nil, err
	}
	go func() {
		defer cancel()
		tick := time.NewTicker(lookEvery)
		defer tick.Stop()
		for l.hub.Stats().Open > 0 {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	return messages, nil
}

// listeners is how many streams are open, and a channel that is closed when there is one
// where there was none.
func (h *Hub) listeners() (open int, opened <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.open, h.opened
}

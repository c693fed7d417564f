package bus_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
)

// FuzzCommit: whatever comes over a bus is a commit that can be read to its end
// and is the same again when it is sent on, or an ErrCorrupt.
func FuzzCommit(f *testing.F) {
	good := bus.Message(commit(f, 3, 17))
	f.Add(good.UUID, []byte(good.Payload))
	f.Add("", []byte{})
	f.Add(good.UUID, []byte(good.Payload[:len(good.Payload)-1]))
	f.Add("x", bytes.Replace(good.Payload, []byte("M5C\x01"), []byte("M5C\x02"), 1))
	f.Add("x", []byte(`{"type":"activity.profile_visited.v1"}`))
	f.Fuzz(func(t *testing.T, id string, payload []byte) {
		c, err := bus.Commit(message.NewMessage(id, payload))
		if err != nil {
			if !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("%q: %v", payload, err)
			}
			return
		}
		n := 0
		for range c.Events() {
			n++
		}
		if n != c.Count {
			t.Fatalf("%d events of %d", n, c.Count)
		}
		if again := bus.Message(c); !bytes.Equal(again.Payload, payload) {
			t.Fatalf("%q is sent on as %q", payload, again.Payload)
		}
	})
}

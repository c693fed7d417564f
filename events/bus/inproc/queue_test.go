package inproc

import (
	"slices"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"pgregory.net/rapid"
)

// TestQueueAgainstASlice has a slice play the queue: drop from the front until
// the new message fits, append.
func TestQueueAgainstASlice(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		capacity := rapid.IntRange(1, 40).Draw(t, "capacity")
		maxBytes := rapid.IntRange(1, 200).Draw(t, "bytes")
		q := newQueue(capacity, maxBytes)
		var model []*message.Message
		size := func() (n int) {
			for _, m := range model {
				n += len(m.Payload)
			}
			return n
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				sizes := rapid.SliceOfN(rapid.IntRange(0, 60), 0, 60).Draw(t, "sizes")
				messages := make([]*message.Message, len(sizes))
				want := 0
				for i, n := range sizes {
					messages[i] = message.NewMessage("", make([]byte, n))
					for len(model) > 0 && (len(model) == capacity || size()+n > maxBytes) {
						model = model[1:]
						want++
					}
					model = append(model, messages[i])
				}
				if got := q.push(messages); got != want {
					t.Fatalf("dropped %d, want %d", got, want)
				}
			},
			"pop": func(t *rapid.T) {
				var want *message.Message
				if len(model) > 0 {
					want, model = model[0], model[1:]
				}
				if got := q.pop(); got != want {
					t.Fatal("popped another message than the oldest")
				}
			},
			"": func(t *rapid.T) {
				if q.n != len(model) || q.bytes != size() || len(q.ring) > capacity {
					t.Fatalf("%d messages of %d bytes in a ring of %d, want %d of %d in at most %d",
						q.n, q.bytes, len(q.ring), len(model), size(), capacity)
				}
				// What has been handed out is not held on to.
				held := len(q.ring) - len(slices.DeleteFunc(slices.Clone(q.ring), func(m *message.Message) bool { return m != nil }))
				if held != q.n {
					t.Fatalf("the ring holds %d messages, want %d", held, q.n)
				}
			},
		})
	})
}

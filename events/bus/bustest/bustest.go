// Package bustest holds what every bus promises to those who follow a log,
// beyond Watermill's own suite: a commit arrives as the very bytes that were
// published, commits of a partition keep their order, and a subscriber that is
// too slow misses the oldest, never the newest.
package bustest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
)

// patience is how long a message may take before a test fails.
const patience = 30 * time.Second

// Capacity is how many messages can wait for a subscription that the suite
// opens: it publishes a few times as many.
const Capacity = 100

// Run checks a bus. open makes an empty one, whose subscriptions hold Capacity
// messages besides at most ahead that are on their way.
func Run(t *testing.T, ahead int, open func(t *testing.T) (message.Publisher, message.Subscriber)) {
	t.Run("a commit's bytes arrive unchanged", func(t *testing.T) {
		pub, sub := open(t)
		messages := subscribe(t, sub)
		for _, count := range []int{1, 100, events.MaxCommitEvents} {
			sent := commit(t, 1, count)
			publish(t, pub, sent)
			m := receive(t, messages)
			if !bytes.Equal(m.Payload, sent.Bytes()) {
				t.Fatalf("a commit of %d events changed on its way", count)
			}
			got, err := bus.Commit(m)
			if err != nil {
				t.Fatal(err)
			}
			if got.Log != sent.Log || got.First != sent.First || got.Count != count {
				t.Fatalf("got %s/%d with %d events, want %s/%d with %d", got.Log, got.First, got.Count, sent.Log, sent.First, count)
			}
			if want := bus.Message(sent).UUID; m.UUID != want {
				t.Fatalf("message has UUID %s, want %s", m.UUID, want)
			}
			m.Ack()
		}
	})

	t.Run("commits of a partition keep their order, in one call and over several", func(t *testing.T) {
		pub, sub := open(t)
		messages := subscribe(t, sub)
		var next uint64
		for _, calls := range [][]int{{1, 1, 1, 1}, {Capacity / 2}, {7, 20, 13}} {
			from := next
			for _, n := range calls {
				var commits []events.Commit
				for range n {
					next++
					commits = append(commits, commit(t, next, 1))
				}
				publish(t, pub, commits...)
			}
			for want := from + 1; want <= next; want++ {
				m := receive(t, messages)
				if got := first(t, m); got != want {
					t.Fatalf("got commit %d, want %d", got, want)
				}
				m.Ack()
			}
		}
	})

	t.Run("a message that is nacked comes again, before those behind it", func(t *testing.T) {
		pub, sub := open(t)
		messages := subscribe(t, sub)
		publish(t, pub, commit(t, 1, 1), commit(t, 2, 1))
		for range 3 {
			m := receive(t, messages)
			if got := first(t, m); got != 1 {
				t.Fatalf("got commit %d, want 1 again", got)
			}
			m.Nack()
		}
		for want := range uint64(2) {
			m := receive(t, messages)
			if got := first(t, m); got != want+1 {
				t.Fatalf("got commit %d, want %d", got, want+1)
			}
			m.Ack()
		}
	})

	t.Run("a slow subscriber misses the oldest, never the newest", func(t *testing.T) {
		pub, sub := open(t)
		messages := subscribe(t, sub)
		publish(t, pub, commit(t, 1, 1))
		held := receive(t, messages)

		last := uint64(5 * (Capacity + ahead))
		for n := uint64(2); n <= last; {
			var commits []events.Commit
			for ; len(commits) < 50 && n <= last; n++ {
				commits = append(commits, commit(t, n, 1))
			}
			publish(t, pub, commits...)
		}
		held.Ack()

		var got []uint64
		for len(got) == 0 || got[len(got)-1] != last {
			m := receive(t, messages)
			n := first(t, m)
			if len(got) > 0 && n <= got[len(got)-1] {
				t.Fatalf("got commit %d after %d", n, got[len(got)-1])
			}
			got = append(got, n)
			m.Ack()
		}
		if most := Capacity + ahead; len(got) > most {
			t.Errorf("got %d commits that had waited, at most %d should fit", len(got), most)
		}
		if newest := got[max(0, len(got)-Capacity/2):]; newest[0] != last-uint64(len(newest))+1 {
			t.Errorf("the newest %d commits have gaps: %d to %d", len(newest), newest[0], last)
		}
	})
}

const (
	log       = events.ActivityLog
	partition = 3
)

func commit(t *testing.T, first uint64, count int) events.Commit {
	t.Helper()
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	evs := make([]events.Event, count)
	for i := range evs {
		evs[i] = events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: at,
			Data: events.Activity{Target: uuid.New(), JoinedAt: at}.AppendJSON(nil),
		}
	}
	c, err := events.Encode(log, partition, first, at, uuid.New(), evs)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func publish(t *testing.T, pub message.Publisher, commits ...events.Commit) {
	t.Helper()
	messages := make([]*message.Message, len(commits))
	for i, c := range commits {
		messages[i] = bus.Message(c)
	}
	if err := pub.Publish(bus.Topic(log, partition), messages...); err != nil {
		t.Fatal(err)
	}
}

func subscribe(t *testing.T, sub message.Subscriber) <-chan *message.Message {
	t.Helper()
	messages, err := sub.Subscribe(context.Background(), bus.Topic(log, partition))
	if err != nil {
		t.Fatal(err)
	}
	return messages
}

func receive(t *testing.T, messages <-chan *message.Message) *message.Message {
	t.Helper()
	select {
	case m, ok := <-messages:
		if !ok {
			t.Fatal("the subscription ended")
		}
		return m
	case <-time.After(patience):
		t.Fatalf("no message within %v", patience)
	}
	return nil
}

func first(t *testing.T, m *message.Message) uint64 {
	t.Helper()
	c, err := bus.Commit(m)
	if err != nil {
		t.Fatal(err)
	}
	return c.First
}

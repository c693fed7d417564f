package rabbit_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/meet5/backend/events/bus/rabbit"
)

// patience is how long a test waits for what must come before it fails.
const patience = 30 * time.Second

func text(s string) *message.Message { return message.NewMessage("id-"+s, []byte(s)) }

func texts(n int) []*message.Message {
	messages := make([]*message.Message, n)
	for i := range messages {
		messages[i] = text(fmt.Sprint(i))
	}
	return messages
}

func publish(t *testing.T, pub *rabbit.Publisher, topic string, messages ...*message.Message) {
	t.Helper()
	if err := pub.Publish(topic, messages...); err != nil {
		t.Fatal(err)
	}
}

// until repeats an attempt until it succeeds.
func until(t *testing.T, what string, attempt func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := attempt()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: still %v after %v", what, err, patience)
		}
	}
}

func subscribe(t *testing.T, sub *rabbit.Subscriber, topic string) <-chan *message.Message {
	t.Helper()
	messages, err := sub.Subscribe(context.Background(), topic)
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

func receiveText(t *testing.T, messages <-chan *message.Message, want string) *message.Message {
	t.Helper()
	m := receive(t, messages)
	if string(m.Payload) != want || m.UUID != "id-"+want {
		t.Fatalf("got message %s %q, want %q", m.UUID, m.Payload, want)
	}
	return m
}

// ends waits until the subscription's channel is closed, and throws away what
// comes before.
func ends(t *testing.T, messages <-chan *message.Message) {
	t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case _, ok := <-messages:
			if !ok {
				return
			}
		case <-deadline:
			t.Fatalf("the subscription had not ended after %v", patience)
		}
	}
}

package bus_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
)

func TestOnlyATopicsOwnCommitsPassTheCheck(t *testing.T) {
	good := bus.Message(commit(t, 3, 17))
	if err := bus.Check("activity.3", good); err != nil {
		t.Fatal(err)
	}
	if c, err := bus.Commit(good); err != nil || c.First != 17 {
		t.Errorf("after the check it is %+v (%v)", c, err)
	}
	for _, topic := range []string{"activity.4", "user.3", "activity"} {
		if err := bus.Check(topic, bus.Message(commit(t, 3, 17))); err == nil || !strings.Contains(err.Error(), "commit 17 of activity.3, not of "+topic) {
			t.Errorf("%s: %v", topic, err)
		}
	}
	other := bus.Message(commit(t, 3, 17))
	other.Payload[3]++
	for _, m := range []*message.Message{message.NewMessage("id", nil), message.NewMessage("id", []byte("hello")), other} {
		if err := bus.Check("activity.3", m); !errors.Is(err, events.ErrCorrupt) {
			t.Errorf("%q: %v, want ErrCorrupt", m.Payload, err)
		}
	}
}

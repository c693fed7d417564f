package bus

import (
	"context"
	"fmt"

	"github.com/ThreeDotsLabs/watermill/message"
)

// checked is the key under which a message's context keeps its commit.
type checked struct{}

// Check says what is wrong with a message of a topic: that it is no commit, one of
// a format that this build does not read, or one of another log or partition. A
// subscriber rejects such a message once; what is right is in the log.
func Check(topic string, m *message.Message) error {
	c, err := Commit(m)
	if err != nil {
		return err
	}
	if of := Topic(c.Log, c.Partition); of != topic {
		return fmt.Errorf("message %s: it is commit %d of %s, not of %s", m.UUID, c.First, of, topic)
	}
	m.SetContext(context.WithValue(m.Context(), checked{}, c))
	return nil
}

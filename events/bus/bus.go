// Package bus carries commits from a log's writer to those who follow it, as
// Watermill messages: one message is one commit, its payload the commit's bytes.
//
// It promises speed, not delivery. A broker may lose, repeat or reorder
// anything, and queues drop from the head when they are full: the log is the
// truth, and a subscription that sees a gap reads the missing commits there. So
// publishing never holds up an append, and there is no outbox.
package bus

import (
	"fmt"
	"strconv"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Topic is the topic that a partition's commits are published to, such as
// "activity.3": the log's name, a dot, and the partition.
func Topic(log string, partition int) string { return log + "." + strconv.Itoa(partition) }

// Message wraps a commit.
func Message(c events.Commit) *message.Message {
	return message.NewMessage(messageID(c), c.Bytes())
}

// Commit unwraps a message's commit and checks that it is whole. After Check it
// costs nothing.
func Commit(m *message.Message) (events.Commit, error) {
	if c, ok := m.Context().Value(checked{}).(events.Commit); ok {
		return c, nil
	}
	c, err := events.Decode(m.Payload)
	if err != nil {
		return events.Commit{}, fmt.Errorf("message %s: %w", m.UUID, err)
	}
	return c, nil
}

// messageID follows from the commit's place, so that a repeated message shows.
func messageID(c events.Commit) string {
	return uuid.NewSHA1(c.Writer, fmt.Appendf(nil, "%s/%d/%d", c.Log, c.Partition, c.First)).String()
}

// Follow gives the subscriber of a consumer group. Instances that share a group
// share its work; an empty group is this instance's alone.
type Follow func(group string) (message.Subscriber, error)

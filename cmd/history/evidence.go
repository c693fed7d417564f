package history

import (
	"context"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

func sayf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// sayCall is one event of a call, and how the call was answered.
func (c *checker) sayCall(asked uint32) string {
	in := c.r.intents.at(int(asked))
	call := c.r.calls.at(int(in.call))
	var b strings.Builder
	fmt.Fprintf(&b, "call %d by %s: append", in.call+1, c.r.clients.list[call.client])
	if typ := c.r.types.list[in.typ]; typ != "" {
		b.WriteString(" " + typ)
	}
	if in.id != uuid.Nil {
		fmt.Fprintf(&b, " %s", in.id)
	}
	if in.version > 0 {
		fmt.Fprintf(&b, " as version %d of %s", in.version, in.stream)
	}
	if claims := c.r.claims[asked]; len(claims) > 0 {
		fmt.Fprintf(&b, " claiming %q", claims)
	}
	if call.n > 1 {
		fmt.Fprintf(&b, ", number %d of %d,", asked-call.first+1, call.n)
	}
	switch call.outcome {
	case acknowledged:
		b.WriteString(" acknowledged")
		if in.sequence > 0 {
			fmt.Fprintf(&b, " at %s at %d", place(c.log.Name(), int(in.partition)), in.sequence)
		}
	case conflict:
		fmt.Fprintf(&b, " refused (%s)", c.r.reasons.list[call.why])
	case unknown:
		fmt.Fprintf(&b, " with unknown outcome (%s)", c.r.reasons.list[call.why])
	default:
		b.WriteString(" without an answer")
	}
	return b.String()
}

// say is an event that the log holds.
func (c *checker) say(e *events.Recorded) string {
	var b strings.Builder
	fmt.Fprintf(&b, "log: %s at %d holds %s %s", place(c.log.Name(), e.Partition), e.Sequence, e.Type, e.ID)
	if e.Version > 0 {
		fmt.Fprintf(&b, " as version %d of %s", e.Version, e.Stream)
	}
	at := c.index.find(e.ID)
	for asked := range c.index.asked(at) {
		call := c.callOf(asked)
		fmt.Fprintf(&b, " of call %d by %s", c.r.intents.at(int(asked)).call+1, c.r.clients.list[call.client])
		break
	}
	return b.String()
}

// sayAt is what the log holds at a position. It is read again: violations are few.
func (c *checker) sayAt(ctx context.Context, partition int, sequence uint64) string {
	if sequence > 0 && partition >= 0 && partition < c.log.Partitions() {
		for e, err := range log.Events(ctx, c.log, partition, sequence-1) {
			if err != nil {
				if c.err == nil {
					c.err = err
				}
				break
			}
			if e.Sequence == sequence {
				e.Partition = partition
				return c.say(&e)
			}
			if e.Sequence > sequence {
				break
			}
		}
	}
	return sayf("log: %s at %d holds nothing", place(c.log.Name(), partition), sequence)
}

// sayHanded is one delivery.
func sayHanded(k laneKey, sequence uint64, handed *fingerprint) string {
	return sayf("%s: handed %s at %d as %s", k.subscriber, place(k.log, k.partition), sequence, handed.id)
}

package history

import (
	"context"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// answers checks what the clients were told of each event against where it
// stands.
func (c *checker) answers(ctx context.Context) {
	for at := range c.index.all.len() {
		c.answer(ctx, uint32(at)) //nolint:gosec // memory ends before the range does
	}
	for i := range c.r.intents.len() {
		in := c.r.intents.at(i)
		if in.id != uuid.Nil || in.version == 0 || in.stream == uuid.Nil {
			continue
		}
		call := c.r.calls.at(int(in.call))
		if call.outcome != acknowledged || int(call.log) != c.number {
			continue
		}
		typ, there := c.written[streamVersion{in.stream, in.version}]
		if want := c.r.types.list[in.typ]; there && (want == "" || want == typ) {
			continue
		}
		c.found.add(Lost, c.log.Name(), c.partitionOf(in), func() (string, []string) {
			said := sayf("log: %s holds no such version of stream %s", place(c.log.Name(), c.partitionOf(in)), in.stream)
			if there {
				said = sayf("log: version %d of stream %s is a %s", in.version, in.stream, typ)
			}
			return "an acknowledged version is not in the log", []string{c.sayCall(uint32(i)), said} //nolint:gosec // as above
		})
	}
}

// answer checks one event.
func (c *checker) answer(ctx context.Context, at uint32) {
	known := c.index.all.at(int(at))
	acked, told, refused, maybe := none, none, none, false
	for i := range c.index.asked(at) {
		switch c.callOf(i).outcome {
		case conflict:
			refused = i
		case acknowledged:
			if acked == none {
				acked = i
			}
			if c.r.intents.at(int(i)).sequence == 0 {
				continue
			}
			if told == none {
				told = i
			} else if a, b := c.told(told), c.told(i); a != b && !apart(a, b) {
				c.found.add(Repeated, c.log.Name(), a.Partition, func() (string, []string) {
					return sayf("event %s was acknowledged at two positions", known.id), []string{c.sayCall(told), c.sayCall(i)}
				})
				if known.sequence > 0 {
					return // one of them at most is true; the log's is not in doubt
				}
			}
		default:
			maybe = true
		}
	}
	switch {
	case acked != none:
		c.stands(ctx, at, acked)
	case refused != none && !maybe && known.sequence > 0:
		c.found.add(RefusedButWritten, c.log.Name(), int(known.partition), func() (string, []string) {
			return sayf("event %s was refused for certain and is in the log", known.id), []string{
				c.sayCall(refused), c.sayAt(ctx, int(known.partition), known.sequence),
			}
		})
	}
}

// told is where the intent was acknowledged.
func (c *checker) told(i uint32) events.Position {
	in := c.r.intents.at(int(i))
	return events.Position{Partition: int(in.partition), Sequence: in.sequence}
}

// stands checks that an acknowledged event is where it was acknowledged.
func (c *checker) stands(ctx context.Context, at, acked uint32) {
	known := c.index.all.at(int(at))
	if known.sequence == 0 {
		partition := c.partitionOf(c.r.intents.at(int(acked)))
		c.found.add(Lost, c.log.Name(), partition, func() (string, []string) {
			evidence := []string{c.sayCall(acked)}
			if p := c.told(acked); p.Sequence > 0 {
				evidence = append(evidence, c.sayAt(ctx, p.Partition, p.Sequence))
			}
			return sayf("event %s was acknowledged and is nowhere in the log", known.id), evidence
		})
		return
	}
	first := events.Position{Partition: int(known.partition), Sequence: known.sequence}
	for i := range c.index.asked(at) {
		p := c.told(i)
		if p.Sequence == 0 || p == first || slices.Contains(c.again[at], p) {
			continue
		}
		c.found.add(Lost, c.log.Name(), p.Partition, func() (string, []string) {
			return sayf("event %s is not where it was acknowledged", known.id), []string{
				c.sayCall(i), c.sayAt(ctx, p.Partition, p.Sequence), c.sayAt(ctx, first.Partition, first.Sequence),
			}
		})
		return
	}
}

// promise is what can be acknowledged to one event only.
type promise struct {
	streamVersion
	claim     string
	partition int
}

// promisedTwice finds versions and claims that two different events were
// acknowledged for.
func (c *checker) promisedTwice() {
	given := make(map[promise]uint32)
	give := func(rule Rule, what promise, i uint32, message func() string) {
		first, twice := given[what]
		if !twice {
			given[what] = i
			return
		}
		if a, b := c.r.intents.at(int(first)), c.r.intents.at(int(i)); a.id != uuid.Nil && a.id == b.id {
			return
		}
		c.found.add(rule, c.log.Name(), what.partition, func() (string, []string) {
			return message(), []string{c.sayCall(first), c.sayCall(i)}
		})
	}
	for n := range c.r.intents.len() {
		i, in := uint32(n), c.r.intents.at(n) //nolint:gosec // memory ends before the range does
		claims := c.r.claims[i]
		if in.version == 0 && len(claims) == 0 || in.stream == uuid.Nil && c.log.Partitions() > 1 {
			continue
		}
		if call := c.r.calls.at(int(in.call)); call.outcome != acknowledged || int(call.log) != c.number {
			continue
		}
		partition := c.partitionOf(in)
		if in.version > 0 && in.stream != uuid.Nil {
			give(Version, promise{streamVersion: streamVersion{in.stream, in.version}, partition: partition}, i, func() string {
				return sayf("version %d of stream %s was acknowledged to two", in.version, in.stream)
			})
		}
		for _, claim := range claims {
			give(Claim, promise{claim: claim, partition: partition}, i, func() string {
				return sayf("the claim %q was acknowledged to two", claim)
			})
		}
	}
}

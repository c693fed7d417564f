package history

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// content is what the log holds in one partition. An event takes 24 bytes.
type content struct {
	partition int
	head      uint64 // last sequence
	recorded  time.Time
	entries   blocks[entry]
	lanes     []laneKey
	// places finds a sequence where they are not 1, 2, 3 …; nil where they are.
	places   map[uint64]int
	versions map[uuid.UUID]standing
	claims   map[string]uint64 // sequence of the event that holds it
}

// entry is one event of the log.
type entry struct {
	sequence uint64
	digest   uint64 // 0 if nobody was handed this partition
	identity uint32
}

// standing is where a stream is.
type standing struct{ version, sequence uint64 }

// partition checks what the log holds in one partition, in itself and against
// what was asked for and delivered.
func (c *checker) partition(ctx context.Context, number int) error {
	in := &content{
		partition: number, lanes: c.lanesOf(number),
		versions: make(map[uuid.UUID]standing), claims: make(map[string]uint64),
	}
	least, err := c.log.Head(ctx, number)
	if err != nil {
		return err
	}
	for commit, err := range c.log.Read(ctx, number, 0) {
		if err != nil {
			return err
		}
		c.commit(ctx, in, commit)
	}
	most, err := c.log.Head(ctx, number)
	if err != nil {
		return err
	}
	if in.head < least || in.head > most {
		c.found.add(Sparse, c.log.Name(), number, func() (string, []string) {
			return "its head is not its last event", []string{
				sayf("log: %s has its head at %d", place(c.log.Name(), number), most),
				sayf("log: the last event that can be read is at %d", in.head),
			}
		})
	}
	c.order(ctx, in)
	for _, k := range in.lanes {
		c.deliveries(ctx, in, k)
	}
	return nil
}

func (c *checker) commit(ctx context.Context, in *content, commit events.Commit) {
	p := in.partition
	if commit.Log != c.log.Name() || commit.Partition != p {
		c.found.add(Misplaced, c.log.Name(), p, func() (string, []string) {
			return "a commit of " + place(commit.Log, commit.Partition) + " stands here", []string{c.sayAt(ctx, p, commit.First)}
		})
	}
	before, recorded := in.head, in.recorded
	if commit.First != before+1 {
		if in.places == nil {
			in.places = make(map[uint64]int)
			for i := range in.entries.len() {
				in.places[in.entries.at(i).sequence] = i
			}
		}
		c.found.add(Sparse, c.log.Name(), p, func() (string, []string) {
			return sayf("sequence %d comes where %d belongs", commit.First, before+1), []string{
				c.sayAt(ctx, p, before), c.sayAt(ctx, p, commit.First),
			}
		})
	}
	if commit.RecordedAt.Before(recorded) {
		c.found.add(Sparse, c.log.Name(), p, func() (string, []string) {
			return "recorded time runs backwards", []string{
				sayf("log: the commit of %s up to %d was recorded at %s", place(c.log.Name(), p), before, recorded.Format(time.RFC3339Nano)),
				sayf("log: the next one, from %d on, at %s", commit.First, commit.RecordedAt.Format(time.RFC3339Nano)),
			}
		})
	}
	in.head, in.recorded = commit.Last(), commit.RecordedAt
	c.firsts[p] = append(c.firsts[p], commit.First)
	for e := range commit.Events() {
		e.Partition = p
		c.event(ctx, in, &e)
	}
}

func (c *checker) event(ctx context.Context, in *content, e *events.Recorded) {
	p := in.partition
	if home := events.PartitionOf(e.Stream, c.log.Partitions()); home != p {
		c.found.add(Misplaced, c.log.Name(), p, func() (string, []string) {
			return sayf("stream %s belongs to %s", e.Stream, place(c.log.Name(), home)), []string{c.say(e)}
		})
	}
	at := c.index.find(e.ID)
	if known := c.index.all.at(int(at)); known.sequence == 0 {
		known.sequence, known.partition = e.Sequence, int32(p) //nolint:gosec // at most 0xffff
	} else {
		c.repeated(ctx, at, e)
	}
	c.version(ctx, in, e)
	c.claimed(ctx, in, e)
	c.wanted(at, e)

	if in.places != nil {
		if _, taken := in.places[e.Sequence]; !taken {
			in.places[e.Sequence] = in.entries.len()
		}
	}
	kept := entry{sequence: e.Sequence, identity: at}
	if len(in.lanes) > 0 {
		kept.digest = c.r.fingerprint(e).digest
	}
	in.entries.add(kept)
}

// repeated checks an ID that stands in the log already.
func (c *checker) repeated(ctx context.Context, at uint32, e *events.Recorded) {
	known := c.index.all.at(int(at))
	before := events.Position{Partition: int(known.partition), Sequence: known.sequence}
	if later := c.again[at]; len(later) > 0 {
		before = later[len(later)-1]
	}
	c.again[at] = append(c.again[at], e.Position)
	if apart(before, e.Position) {
		return
	}
	c.found.add(Repeated, c.log.Name(), e.Partition, func() (string, []string) {
		return sayf("event %s stands twice", e.ID), []string{c.sayAt(ctx, before.Partition, before.Sequence), c.say(e)}
	})
}

// apart says that the log need not know an ID at one of the places from the other.
func apart(a, b events.Position) bool {
	return a.Partition == b.Partition && max(a.Sequence, b.Sequence)-min(a.Sequence, b.Sequence) > log.Window
}

func (c *checker) version(ctx context.Context, in *content, e *events.Recorded) {
	if e.Version == 0 {
		return
	}
	if k := (streamVersion{e.Stream, e.Version}); c.nameless[k] {
		c.written[k] = e.Type
	}
	before := in.versions[e.Stream]
	in.versions[e.Stream] = standing{e.Version, e.Sequence}
	if e.Version == before.version+1 {
		return
	}
	c.found.add(Version, c.log.Name(), in.partition, func() (string, []string) {
		evidence := []string{c.say(e)}
		if before.sequence > 0 {
			evidence = []string{c.sayAt(ctx, in.partition, before.sequence), c.say(e)}
		}
		return sayf("version %d of stream %s comes where %d belongs", e.Version, e.Stream, before.version+1), evidence
	})
}

func (c *checker) claimed(ctx context.Context, in *content, e *events.Recorded) {
	for _, claim := range e.Claims {
		before, held := in.claims[claim]
		if !held {
			in.claims[claim] = e.Sequence
			continue
		}
		c.found.add(Claim, c.log.Name(), in.partition, func() (string, []string) {
			return sayf("the claim %q is held twice", claim), []string{c.sayAt(ctx, in.partition, before), c.say(e)}
		})
	}
}

// wanted checks that the event is what somebody asked for.
func (c *checker) wanted(at uint32, e *events.Recorded) {
	differs, wrong, refused := Rule(""), none, false
	for i := range c.index.asked(at) {
		if c.callOf(i).outcome == conflict {
			refused = true
			continue
		}
		rule := c.difference(i, e)
		if rule == "" {
			return
		}
		if wrong == none {
			differs, wrong = rule, i
		}
	}
	switch nameless := c.nameless[streamVersion{e.Stream, e.Version}]; {
	case wrong != none:
		c.found.add(differs, c.log.Name(), e.Partition, func() (string, []string) {
			return sayf("event %s is not what was asked for", e.ID), []string{c.sayCall(wrong), c.say(e)}
		})
	case refused || nameless || !c.exclusive || len(c.types) > 0 && !c.types[e.Type]:
	default:
		c.found.add(Unasked, c.log.Name(), e.Partition, func() (string, []string) {
			return sayf("nobody asked for event %s", e.ID), []string{c.say(e)}
		})
	}
}

// difference is the rule that is broken if the event was written for the intent;
// empty if none is.
func (c *checker) difference(asked uint32, e *events.Recorded) Rule {
	in := c.r.intents.at(int(asked))
	switch typ := c.r.types.list[in.typ]; {
	case typ != "" && typ != e.Type, in.stream != uuid.Nil && in.stream != e.Stream:
		return Unasked
	case in.version != 0 && in.version != e.Version:
		return Version
	}
	for _, claim := range c.r.claims[asked] {
		if !slices.Contains(e.Claims, claim) {
			return Claim
		}
	}
	return ""
}

// find returns the entry that stands at a sequence, nil if there is none.
func (in *content) find(sequence uint64) *entry {
	if in.places != nil {
		if i, ok := in.places[sequence]; ok {
			return in.entries.at(i)
		}
		return nil
	}
	if sequence == 0 || sequence > uint64(in.entries.len()) { //nolint:gosec // a length
		return nil
	}
	return in.entries.at(int(sequence - 1)) //nolint:gosec // checked above
}

// order checks that no event stands before one that was acknowledged before it was
// asked for. It goes from the last to the first and remembers the earliest
// acknowledgement of those that come later.
func (c *checker) order(ctx context.Context, in *content) {
	earliest, by, later := ^uint64(0), none, uint64(0)
	for i := in.entries.len() - 1; i >= 0; i-- {
		e := in.entries.at(i)
		known := c.index.all.at(int(e.identity))
		if known.sequence != e.sequence || int(known.partition) != in.partition {
			continue // it has stood before
		}
		var askedAt, ackedAt uint64 // first; 0 for never
		var first, acked uint32
		for n := range c.index.asked(e.identity) {
			call := c.callOf(n)
			if call.outcome == conflict {
				continue
			}
			if askedAt == 0 {
				askedAt, first = call.invoked, n
			}
			if call.outcome == acknowledged && (ackedAt == 0 || call.settled < ackedAt) {
				ackedAt, acked = call.settled, n
			}
		}
		if askedAt > earliest {
			before, after := by, later
			c.found.add(Disordered, c.log.Name(), in.partition, func() (string, []string) {
				return "an event stands before one that was acknowledged before it was asked for", []string{
					c.sayCall(before), c.sayCall(first) + ", asked for after that",
					c.sayAt(ctx, in.partition, e.sequence), c.sayAt(ctx, in.partition, after),
				}
			})
		}
		if ackedAt > 0 && ackedAt < earliest {
			earliest, by, later = ackedAt, acked, e.sequence
		}
	}
}

package bench

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
)

// partitions is how many the activity log has.
const partitions = events.ActivityPartitions

// seed is what every random choice follows from.
const seed = 20260101

// epoch is when everybody joined, and when the first act happened.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// person is a member's ID. They are spread over all partitions and over an index.
func person(n int) (u uuid.UUID) {
	binary.BigEndian.PutUint64(u[:8], uint64(n)*0x9e3779b97f4a7c15) //nolint:gosec // spread on purpose
	binary.BigEndian.PutUint64(u[8:], uint64(n))                    //nolint:gosec // not negative
	return versioned(u)
}

// versioned makes it look like a random UUID.
func versioned(u uuid.UUID) uuid.UUID {
	u[6], u[8] = u[6]&0x0f|0x40, u[8]&0x3f|0x80
	return u
}

// act is who did what to whom.
type act struct {
	kind          activity.Kind
	actor, target int
}

// draw makes up an act.
type draw func(r *rand.Rand) act

// numbers hands out the IDs of events, each once. Its zero value is fit for use by
// one goroutine; two must have different lines.
type numbers struct{ line, next uint64 }

// id is the next event's.
func (n *numbers) id() (u uuid.UUID) {
	n.next++
	binary.BigEndian.PutUint64(u[:8], n.line<<48|n.next>>12)
	binary.BigEndian.PutUint64(u[8:], n.next)
	return versioned(u)
}

// eventOf is the event of an act.
func eventOf(a act, id uuid.UUID, n int) events.Event {
	return activity.NewEvent(person(a.actor), person(a.target), a.kind, id, epoch.Add(time.Duration(n)*time.Second), epoch, true)
}

// visitsIn makes n visits by actors of one partition.
func visitsIn(partition, n int, line uint64) []events.Event {
	r := rand.New(rand.NewPCG(seed, line)) //nolint:gosec // the same every time
	ids := numbers{line: line}
	evs := make([]events.Event, 0, n)
	for len(evs) < n {
		a := act{activity.Visit, r.IntN(10_000), 10_000 + r.IntN(10_000)}
		if events.PartitionOf(person(a.actor), partitions) == partition {
			evs = append(evs, eventOf(a, ids.id(), len(evs)))
		}
	}
	return evs
}

// actsByPartition draws n events and parts them.
func actsByPartition(n int, draws draw, line uint64) (parted [partitions][]events.Event) {
	r := rand.New(rand.NewPCG(seed, line)) //nolint:gosec // the same every time
	ids := numbers{line: line}
	for i := range n {
		e := eventOf(draws(r), ids.id(), i)
		p := events.PartitionOf(e.Stream, partitions)
		parted[p] = append(parted[p], e)
	}
	return parted
}

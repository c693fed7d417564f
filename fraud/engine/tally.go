package engine

import (
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/rule"
)

// moment is when an event happened, and which one it was.
type moment struct {
	at       int64
	sequence uint64
}

// sighting is an event as a tally sees it.
type sighting struct {
	moment
	kind   kind
	target uuid.UUID
}

// tally is what is kept of one key for one rule.
type tally interface {
	// observe takes in an event, lets go of what happened before from, and says
	// whether the event has brought the aggregate up to the threshold. Times
	// never run backwards.
	observe(threshold int, s sighting, from int64, stats *Stats) (crossed bool)
	// appendEvidence appends the events that the aggregate rests on just after a
	// crossing.
	appendEvidence(sequences []uint64) []uint64
}

func newTally(r rule.Rule) tally {
	switch {
	case r.Aggregate == rule.Count:
		return &counter{}
	case r.Aggregate == rule.Distinct:
		return &distinct{}
	case r.Reading == rule.Each:
		return &each{}
	case r.Reading == rule.Both:
		return &both{}
	}
	panic(fmt.Errorf("no tally for %s %s", r.Aggregate, r.Reading)) // Validate lets no other through
}

// evidence is the sequences of a hit's events, in order.
func evidence(t tally) []uint64 {
	sequences := t.appendEvidence(nil)
	slices.Sort(sequences)
	return sequences
}

// crossing remembers on which side of the threshold an aggregate is.
type crossing struct{ above bool }

// before is told how the aggregate stands just before an event.
func (c *crossing) before(reached bool) { c.above = c.above && reached }

// after is told how it stands just after the event, and says if that crossed.
func (c *crossing) after(reached bool) bool {
	crossed := reached && !c.above
	c.above = c.above || reached
	return crossed
}

// spent takes the place of a tally that can cross no more.
type spent struct{}

func (spent) observe(int, sighting, int64, *Stats) bool  { return false }
func (spent) appendEvidence(sequences []uint64) []uint64 { return sequences }

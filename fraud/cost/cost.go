// Package cost says what a rule costs, before it is run on what is real.
package cost

import (
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

const (
	// Slow is what a rule may take for an event before it is marked as slow: with 50
	// such rules a core is down to 4,000 events a second.
	Slow = 5 * time.Microsecond
	// Made-up events that a rule is measured on: so many, by so many actors on so many
	// targets.
	measuredEvents, measuredActors, measuredTargets = 20_000, 500, 400
	// parts is into how many parts they are split. What counts is the part in the
	// middle, so that a machine that has other things to do at times makes no rule slow.
	parts = 20
)

// Measure says what a rule takes for an event that it listens to, by the wall clock.
// Nothing that is decided about anybody may depend on it.
func Measure(r rule.Rule) (time.Duration, error) {
	g, err := newEngine(r)
	if err != nil {
		return 0, fmt.Errorf("measure rule %s: %w", r.ID, err)
	}
	list := madeUp(r.Events)
	var hits []engine.Hit
	took := make([]time.Duration, 0, parts)
	for part := range slices.Chunk(list, measuredEvents/parts) {
		begun := time.Now()
		for i := range part {
			hits = g.Process(&part[i], hits[:0])
		}
		took = append(took, time.Since(begun)/time.Duration(len(part)))
	}
	slices.Sort(took)
	return took[len(took)/2], nil
}

func newEngine(r rule.Rule) (*engine.Engine, error) {
	if r.Ordered() {
		return engine.NewOrdered(engine.NewUsers(), []rule.Rule{r}, 1)
	}
	return engine.New([]rule.Rule{r})
}

// madeUp is events of these kinds, a second apart. Which, is always the same.
func madeUp(kinds []rule.Kind) []events.Recorded {
	begin := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	list := make([]events.Recorded, measuredEvents)
	mixed := uint64(1)
	for i := range list {
		mixed = mixed*6364136223846793005 + 1442695040888963407 // Knuth's MMIX generator
		actor, target := mixed>>33%measuredActors, mixed>>13%measuredTargets
		at := begin.Add(time.Duration(i) * time.Second)
		list[i] = events.Recorded{
			Event: events.Event{
				ID: madeUpID('e', uint64(i)), Type: kinds[i%len(kinds)].EventType(), Stream: madeUpID('a', actor), OccurredAt: at,
				Data: events.Activity{Target: madeUpID('t', target), JoinedAt: begin}.AppendJSON(nil),
			},
			Position: events.Position{Sequence: uint64(i + 1)}, RecordedAt: at, //nolint:gosec // an index
		}
	}
	return list
}

func madeUpID(sort byte, n uint64) (id uuid.UUID) {
	id[0] = sort
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

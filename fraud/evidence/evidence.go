// Package evidence reads from the activity log the events that a hit rests on.
//
// The engine remembers them by their place, which is a third of the memory that
// copies would take; hits are rare, so they are read when one happens.
package evidence

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// near is up to how many events may lie between two that are wanted for the log
// to be read on rather than looked up anew.
const near = 2 * events.MaxCommitEvents

// Read returns the events in these positions, which must be in the log, each once, in
// the order of the positions.
func Read(ctx context.Context, r log.Reader, at []events.Position) ([]events.Recorded, error) {
	order := make([]int, len(at))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		return cmp.Or(cmp.Compare(at[a].Partition, at[b].Partition), cmp.Compare(at[a].Sequence, at[b].Sequence))
	})
	out := make([]events.Recorded, len(at))
	for len(order) > 0 {
		n, err := run(ctx, r, at, order, out)
		if err != nil {
			return nil, fmt.Errorf("read evidence %d of %s/%d: %w", at[order[n]].Sequence, r.Name(), at[order[n]].Partition, err)
		}
		order = order[n:]
	}
	return out, nil
}

// run reads on from the first event of the order, while the next is near, and says how
// many it has found.
func run(ctx context.Context, r log.Reader, at []events.Position, order []int, out []events.Recorded) (found int, err error) {
	next := at[order[0]]
	for c, err := range r.Read(ctx, next.Partition, next.Sequence-1) {
		if err != nil {
			return found, err
		}
		if c.Last() >= next.Sequence {
			for e := range c.EventsAfter(next.Sequence - 1) {
				if e.Sequence != next.Sequence {
					continue
				}
				out[order[found]] = e
				if found++; found == len(order) || at[order[found]].Partition != next.Partition {
					return found, nil
				}
				next = at[order[found]]
			}
		}
		if found > 0 && next.Sequence > c.Last()+near {
			return found, nil
		}
	}
	return found, log.ErrNotFound
}

// Package evidence reads from the activity log the events that a hit rests on.
//
// The engine remembers them by their sequence, which is a third of the memory
// that copies would take; hits are rare, so they are read when one happens.
package evidence

import (
	"context"
	"fmt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// near is up to how many events may lie between two that are wanted for the log
// to be read on rather than looked up anew.
const near = 2 * events.MaxCommitEvents

// Read returns the events with these sequences, which must be ascending and in
// the log.
func Read(ctx context.Context, r log.Reader, partition int, sequences []uint64) ([]events.Recorded, error) {
	out := make([]events.Recorded, 0, len(sequences))
	for len(out) < len(sequences) {
		n := len(out)
		var err error
		if out, err = run(ctx, r, partition, sequences, out); err != nil {
			return nil, fmt.Errorf("read evidence %d of %s/%d: %w", sequences[n], r.Name(), partition, err)
		}
	}
	return out, nil
}

// run reads on from the first event that is missing in out, while the next is
// near.
func run(ctx context.Context, r log.Reader, partition int, sequences []uint64, out []events.Recorded) ([]events.Recorded, error) {
	begun := len(out)
	for c, err := range r.Read(ctx, partition, sequences[begun]-1) {
		if err != nil {
			return nil, err
		}
		if c.Last() >= sequences[len(out)] {
			for e := range c.EventsAfter(sequences[len(out)] - 1) {
				if e.Sequence != sequences[len(out)] {
					continue
				}
				if out = append(out, e); len(out) == len(sequences) {
					return out, nil
				}
			}
		}
		if len(out) > begun && sequences[len(out)] > c.Last()+near {
			return out, nil
		}
	}
	return nil, log.ErrNotFound
}

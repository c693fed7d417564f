package bench

import (
	"context"
	"errors"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

const (
	// batchCallers bring their events in batches of batchEvents, each waiting for
	// its own. Four of them share a partition, so that while the events of two are
	// in flight, the others make up the next commit of about commitEvents.
	batchCallers = 4 * partitions
	batchEvents  = commitEvents / 2
)

// batches are the callers' batches, used again with new IDs once they are durable.
type batches struct {
	size int // events of a batch
	// of[caller][partition] is made when it is first wanted.
	of  [][partitions][]events.Event
	ids []numbers
}

func (s *site) newBatches(callers int, line uint64) *batches {
	b := &batches{size: s.scaled(batchEvents, 1), of: make([][partitions][]events.Event, callers), ids: make([]numbers, callers)}
	for i := range b.ids {
		b.ids[i].line = line + uint64(i) //nolint:gosec // not negative
	}
	return b
}

// next is a caller's next batch for a partition.
func (b *batches) next(caller, partition int) []events.Event {
	own := &b.of[caller][partition]
	if *own == nil {
		*own = visitsIn(partition, b.size, b.ids[caller].line)
	}
	stamp(*own, &b.ids[caller])
	return *own
}

// append appends the caller's next batch for a partition.
func (b *batches) append(ctx context.Context, l *log.Log, caller, partition int) (int, error) {
	evs := b.next(caller, partition)
	written, err := l.Append(ctx, evs...)
	if err != nil {
		return 0, err
	}
	for _, w := range written {
		if w.Duplicate {
			return 0, errors.New("a new event is taken for one that was there")
		}
	}
	return len(evs), nil
}

package bench

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/mongo"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
)

// commitEvents is how many events a full commit has here: what forms under load.
const commitEvents = 500

// newMongoLog makes an activity log in a database.
func newMongoLog(ctx context.Context, db *mongo.Database) (*mongolog.Store, error) {
	if err := mongolog.Create(ctx, db, events.ActivityLog, partitions); err != nil {
		return nil, err
	}
	return mongolog.Open(db, events.ActivityLog, partitions), nil
}

// fill writes n events to the end of a log, partitions side by side, in commits of
// commitEvents. It returns how many it wrote: n, rounded to whole partitions.
func fill(ctx context.Context, s log.Store, n int, next func(partition, count int) []events.Event) (int, error) {
	per := max(n/partitions, 1)
	writer := uuid.New()
	err := each(ctx, partitions, func(ctx context.Context, p int) error {
		head, err := s.Head(ctx, p)
		if err != nil {
			return err
		}
		for left := per; left > 0; {
			evs := next(p, min(left, commitEvents))
			c, err := events.Encode(s.Name(), p, head+1, epoch, writer, evs)
			if err != nil {
				return err
			}
			if err := s.Insert(ctx, c, nil); err != nil {
				return fmt.Errorf("fill the log: %w", err)
			}
			head, left = c.Last(), left-len(evs)
		}
		return nil
	})
	return per * partitions, err
}

// repeated hands out the same visits again and again, with new IDs.
func repeated(line uint64) func(partition, count int) []events.Event {
	var stock [partitions][]events.Event
	var ids [partitions]numbers
	for p := range stock {
		stock[p] = visitsIn(p, commitEvents, line+uint64(p)) //nolint:gosec // not negative
		ids[p].line = line + uint64(p)                       //nolint:gosec // not negative
	}
	return func(partition, count int) []events.Event {
		evs := stock[partition][:count]
		stamp(evs, &ids[partition])
		return evs
	}
}

// stamp gives events new IDs.
func stamp(evs []events.Event, ids *numbers) {
	for i := range evs {
		evs[i].ID = ids.id()
	}
}

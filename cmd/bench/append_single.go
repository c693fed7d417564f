package bench

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// singleCallers append one event at a time.
const singleCallers = 256

// appendSingle is single events, each caller waiting until its own is durable, in
// events a second. The limit is not a limit but what is usual: a document an event.
var appendSingle = Work{
	Name:    "append-single",
	Ours:    "log.Append of one event at a time on MongoDB, 256 callers over 16 partitions",
	Limit:   "InsertOne of one document an event, the same 256 callers, majority and journal",
	Figures: []Figure{{Unit: "events/s", Target: Target{Ratio: 10}}},
	Mongo:   true,
	open: func(ctx context.Context, s *site) (turn, error) {
		store, err := newMongoLog(ctx, s.database("log"))
		if err != nil {
			return nil, err
		}
		l := log.New(store, log.Options{Linger: log.DefaultLinger})
		s.onClose(func(context.Context) error { l.Close(); return nil })
		bare := s.database("bare").Collection("events")
		load := s.newBatches(singleCallers, 1)
		next := func(caller int) []events.Event {
			e := load.of[caller][0]
			if e == nil {
				e = visitsIn(caller%partitions, 1, load.ids[caller].line)
				load.of[caller][0] = e
			}
			stamp(e, &load.ids[caller])
			return e
		}
		return alternate(
			func(ctx context.Context) (float64, error) {
				return loop(ctx, singleCallers, s.For, func(ctx context.Context, caller int) (int, error) {
					_, err := l.Append(ctx, next(caller)...)
					return 1, err
				})
			},
			func(ctx context.Context) (float64, error) {
				return loop(ctx, singleCallers, s.For, func(ctx context.Context, caller int) (int, error) {
					e := next(caller)[0]
					if _, err := bare.InsertOne(ctx, bson.D{
						{Key: "_id", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: e.ID[:]}},
						{Key: "type", Value: e.Type},
						{Key: "stream", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: e.Stream[:]}},
						{Key: "occurred_at", Value: e.OccurredAt},
						{Key: "data", Value: string(e.Data)},
					}); err != nil {
						return 0, fmt.Errorf("bare insert: %w", err)
					}
					return 1, nil
				})
			},
		), nil
	},
}

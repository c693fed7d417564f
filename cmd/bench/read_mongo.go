package bench

import (
	"context"
	"fmt"
	"sync/atomic"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log/mongolog"
)

// readMongo reads a whole log in MongoDB and counts, partitions side by side, in
// events a second. The limit is a cursor over the same documents that looks at
// nothing but the number of events in each commit's header.
var readMongo = Work{
	Name:    "read",
	Ours:    "full read of a log of 1,000,000 events in MongoDB, count only, 16 partitions at once",
	Limit:   "bare cursors over the same documents, counting by the commits' headers",
	Figures: []Figure{{Unit: "events/s", Target: Target{Ratio: 0.7}}},
	Mongo:   true,
	open: func(ctx context.Context, s *site) (turn, error) {
		db := s.database("log")
		store, err := newMongoLog(ctx, db)
		if err != nil {
			return nil, err
		}
		want, err := fill(ctx, store, s.scaled(readEvents, partitions), repeated(1))
		if err != nil {
			return nil, err
		}
		whole := func(read func(ctx context.Context, partition int) (int, error)) side {
			return func(ctx context.Context) (float64, error) {
				return clocked(func() (int, error) {
					var total atomic.Int64
					err := each(ctx, partitions, func(ctx context.Context, p int) error {
						n, err := read(ctx, p)
						total.Add(int64(n))
						return err
					})
					if n := int(total.Load()); err == nil && n != want {
						err = fmt.Errorf("read %d events of a log of %d", n, want)
					}
					return want, err
				})
			}
		}
		return alternate(
			whole(func(ctx context.Context, p int) (int, error) { return count(ctx, store, p, 0) }),
			whole(func(ctx context.Context, p int) (int, error) { return countBare(ctx, db, p) }),
		), nil
	},
}

func countBare(ctx context.Context, db *mongo.Database, partition int) (n int, err error) {
	coll := db.Collection(mongolog.CollectionName(events.ActivityLog, partition))
	cur, err := coll.Find(ctx, bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}).
		SetProjection(bson.D{{Key: "_id", Value: 1}, {Key: "e", Value: 1}}))
	if err != nil {
		return 0, fmt.Errorf("bare cursor: %w", err)
	}
	defer cur.Close(ctx) //nolint:errcheck // it was read to its end, or failed
	for cur.Next(ctx) {
		_, commit := cur.Current.Lookup("e").Binary()
		n += events.CountOf(commit)
	}
	if err := cur.Err(); err != nil {
		return n, fmt.Errorf("bare cursor: %w", err)
	}
	return n, nil
}

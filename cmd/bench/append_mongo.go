package bench

import (
	"context"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
)

// appendMongo is durable appends in batches, in events a second. The limit gets the
// documents that ours has just written, read back as they are, and inserts them
// partition by partition side by side, one insert in flight each, as the log does.
var appendMongo = Work{
	Name:    "append",
	Ours:    "log.Append on MongoDB, 16 partitions, 64 callers in batches of 250, commits of about 500 as they form",
	Limit:   "the bare driver's InsertOne of the same documents, 16 at once, majority and journal",
	Figures: []Figure{{Unit: "events/s", Target: Target{Ratio: 0.7}}},
	Mongo:   true,
	open: func(ctx context.Context, s *site) (turn, error) {
		ours, err := newMongoLog(ctx, s.database("log"))
		if err != nil {
			return nil, err
		}
		bare, err := newMongoLog(ctx, s.database("bare"))
		if err != nil {
			return nil, err
		}
		l := log.New(ours, log.Options{Linger: log.DefaultLinger})
		s.onClose(func(context.Context) error { l.Close(); return nil })
		load := s.newBatches(batchCallers, 1)
		return func(ctx context.Context) ([]Pair, error) {
			from, err := heads16(ctx, ours)
			if err != nil {
				return nil, err
			}
			var pair Pair
			if pair.Ours, err = loop(ctx, batchCallers, s.For, func(ctx context.Context, caller int) (int, error) {
				return load.append(ctx, l, caller, caller%partitions)
			}); err != nil {
				return nil, err
			}
			written, err := documents(ctx, s.database("log"), from)
			if err != nil {
				return nil, err
			}
			pair.Limit, err = insertBare(ctx, s.database("bare"), bare, written)
			return []Pair{pair}, err
		}, nil
	},
}

// heads16 are the heads of all partitions.
func heads16(ctx context.Context, r log.Reader) (heads [partitions]uint64, err error) {
	for p := range heads {
		if heads[p], err = r.Head(ctx, p); err != nil {
			return heads, err
		}
	}
	return heads, nil
}

// documents reads the log's documents after some heads as they are stored.
func documents(ctx context.Context, db *mongo.Database, after [partitions]uint64) (found [partitions][]bson.Raw, err error) {
	for p := range found {
		coll := db.Collection(mongolog.CollectionName(events.ActivityLog, p))
		cur, err := coll.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gt", Value: int64(after[p])}}}}, //nolint:gosec // a sequence
			options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
		if err != nil {
			return found, fmt.Errorf("read the documents back: %w", err)
		}
		if err := cur.All(ctx, &found[p]); err != nil {
			return found, fmt.Errorf("read the documents back: %w", err)
		}
	}
	return found, nil
}

// insertBare inserts documents into the collections of a log, with nothing but the
// driver, and returns the events a second.
func insertBare(ctx context.Context, db *mongo.Database, into *mongolog.Store, documents [partitions][]bson.Raw) (float64, error) {
	return clocked(func() (n int, err error) {
		var counts [partitions]int
		err = each(ctx, into.Partitions(), func(ctx context.Context, p int) error {
			coll := db.Collection(mongolog.CollectionName(into.Name(), p))
			for _, d := range documents[p] {
				if _, err := coll.InsertOne(ctx, d); err != nil {
					return fmt.Errorf("bare insert: %w", err)
				}
				counts[p] += int(d.Lookup("n").AsInt64())
			}
			return nil
		})
		for _, c := range counts {
			n += c
		}
		return n, err
	})
}

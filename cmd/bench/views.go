package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/views"
)

const (
	// viewEvents is how many events a turn brings into the read models.
	viewEvents = 40_000
	// viewBatch is how many events a subscription hands over at once, and how many
	// the bare driver writes at once.
	viewBatch = subscription.DefaultMaxBatch
)

// viewsNew has nothing to gain from taking events together: nearly every visit is
// the first of its pair.
var viewsNew = viewsOf("views-new", "visits, nearly each of a new pair", func(r *rand.Rand) act {
	return act{activity.Visit, r.IntN(20_000), 20_000 + r.IntN(20_000)}
})

// viewsMixed is what members do who know each other: they come again, and some of
// their likes are returned.
var viewsMixed = viewsOf("views-mixed", "visits and likes among 500 members, some returned", func(r *rand.Rand) act {
	kind := []activity.Kind{activity.Visit, activity.Visit, activity.Like}[r.IntN(3)]
	actor := r.IntN(500)
	return act{kind, actor, (actor + 1 + r.IntN(100)) % 500}
})

// viewsOf is from the log to the read models, partitions side by side, in events a
// second: reading the log, decoding, folding, and writing with majority. The limit
// makes one guarded upsert an event, in unordered bulk writes of the same size by as
// many callers, into an empty collection with the two indexes of the visits.
func viewsOf(name, of string, draws draw) Work {
	return Work{
		Name:    name,
		Ours:    "log to read models on MongoDB, end to end, 16 partitions in batches of 1,000: " + of,
		Limit:   "the bare driver's guarded bulk upserts of the same events, one an event, 16 callers in batches of 1,000",
		Figures: []Figure{{Unit: "events/s", Target: Target{Ratio: 0.7}}},
		Mongo:   true,
		open: func(ctx context.Context, s *site) (turn, error) {
			store, err := newMongoLog(ctx, s.database("log"))
			if err != nil {
				return nil, err
			}
			n := s.scaled(viewEvents, partitions)
			parted := actsByPartition(n, draws, 1)
			if err := write(ctx, store, parted); err != nil {
				return nil, err
			}
			read, bare := s.database("views"), s.database("bare")
			return alternate(
				func(ctx context.Context) (float64, error) {
					if err := errors.Join(read.Drop(ctx), mongostore.Create(ctx, read)); err != nil {
						return 0, err
					}
					return clocked(func() (int, error) { return n, foldInto(ctx, mongostore.Open(read), store, nil) })
				},
				func(ctx context.Context) (float64, error) {
					coll, err := newBareViews(ctx, bare)
					if err != nil {
						return 0, err
					}
					return clocked(func() (int, error) {
						return n, each(ctx, partitions, func(ctx context.Context, p int) error {
							return upsertBare(ctx, coll, parted[p])
						})
					})
				},
			), nil
		},
	}
}

// write appends the events to a log.
func write(ctx context.Context, store log.Store, parted [partitions][]events.Event) error {
	l := log.New(store, log.Options{})
	defer l.Close()
	return each(ctx, partitions, func(ctx context.Context, p int) error {
		for len(parted[p]) > 0 {
			n := min(commitEvents, len(parted[p]))
			if _, err := l.Append(ctx, parted[p][:n]...); err != nil {
				return err
			}
			parted[p] = parted[p][n:]
		}
		return nil
	})
}

// foldInto follows a log into read models until they hold what is in it now, from
// where the ledger says; from the log's start without one.
func foldInto(ctx context.Context, into views.Store, from log.Reader, start subscription.Ledger) error {
	sub := subscription.New(subscription.Config{
		Log: from, Group: "bench", Ledger: start, MaxBatch: viewBatch, Handler: views.Handler(into),
	})
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { _ = sub.Run(ctx) }) // it ends with ctx and has no error
	err := sub.CatchUp(ctx)
	cancel()
	running.Wait()
	return errors.Join(err, nothingParked(sub))
}

// nothingParked is an error if a subscription could not handle something: its rate
// would be of less than it should be.
func nothingParked(sub *subscription.Subscription) error {
	for _, st := range sub.Status() {
		if st.Parked > 0 {
			return fmt.Errorf("%v: %d events are parked", st.Place, st.Parked)
		}
	}
	return nil
}

// newBareViews makes an empty collection with the indexes that visits have.
func newBareViews(ctx context.Context, db *mongo.Database) (*mongo.Collection, error) {
	coll := db.Collection("visits")
	if err := coll.Drop(ctx); err != nil {
		return nil, fmt.Errorf("drop %s: %w", coll.Name(), err)
	}
	if _, err := coll.Indexes().CreateMany(ctx, []mongo.IndexModel{
		{Keys: bson.D{{Key: "t", Value: 1}, {Key: "h", Value: 1}, {Key: "l", Value: -1}, {Key: "a", Value: -1}}},
		{Keys: bson.D{{Key: "a", Value: 1}, {Key: "l", Value: -1}, {Key: "t", Value: -1}}},
	}); err != nil {
		return nil, fmt.Errorf("create indexes: %w", err)
	}
	return coll, nil
}

// upsertBare makes one guarded upsert an event, in unordered bulk writes. The guard
// is the position within the partition.
func upsertBare(ctx context.Context, coll *mongo.Collection, evs []events.Event) error {
	for from := 0; from < len(evs); from += viewBatch {
		batch := evs[from:min(from+viewBatch, len(evs))]
		writes := make([]mongo.WriteModel, len(batch))
		for i := range batch {
			w, err := guardedUpsert(&batch[i], int64(from+i+1))
			if err != nil {
				return err
			}
			writes[i] = w
		}
		if _, err := coll.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false)); err != nil && !mongo.IsDuplicateKeyError(err) {
			return fmt.Errorf("bare upserts: %w", err)
		}
	}
	return nil
}

// guardedUpsert counts a visit once, by its position.
func guardedUpsert(e *events.Event, position int64) (*mongo.UpdateOneModel, error) {
	a, err := events.ParseActivity(e.Data)
	if err != nil {
		return nil, err
	}
	at := e.OccurredAt.UnixMicro()
	return mongo.NewUpdateOneModel().SetUpsert(true).
		SetFilter(bson.D{
			{Key: "_id", Value: bson.Binary{Data: append(e.Stream[:], a.Target[:]...)}},
			{Key: "p", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: position}}}}},
		}).
		SetUpdate(bson.D{
			{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}},
			{Key: "$max", Value: bson.D{{Key: "l", Value: at}}},
			{Key: "$min", Value: bson.D{{Key: "f", Value: at}}},
			{Key: "$set", Value: bson.D{{Key: "p", Value: position}}},
			{Key: "$setOnInsert", Value: bson.D{
				{Key: "a", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: e.Stream[:]}},
				{Key: "t", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: a.Target[:]}},
				{Key: "h", Value: false},
			}},
		}), nil
}

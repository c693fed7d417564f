package mongostore_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/views"
)

// acts is how many events a benchmark works through, batchSize how many make a
// bulk write.
const (
	acts       = 32_000
	batchSize  = 1000
	partitions = events.ActivityPartitions
)

type activity struct {
	kind          string
	actor, target uuid.UUID
}

func person(n int) (u uuid.UUID) {
	u[0] = byte(n) // spread over the ranges of an index, as real IDs are
	binary.BigEndian.PutUint64(u[8:], uint64(n+1))
	return u
}

// loads are what people do.
var loads = []struct {
	name  string
	drawn func(random *rand.Rand) activity
}{
	{"each visit a new pair", func(r *rand.Rand) activity {
		return activity{events.ProfileVisited, person(r.IntN(20_000)), person(20_000 + r.IntN(20_000))}
	}},
	{"visits of regulars", func(r *rand.Rand) activity {
		actor := r.IntN(2_000)
		return activity{events.ProfileVisited, person(actor), person(2_000 + (actor*7+r.IntN(3))%500)}
	}},
	{"visits and likes, some returned", func(r *rand.Rand) activity {
		kind := []string{events.ProfileVisited, events.ProfileVisited, events.ProfileLiked}[r.IntN(3)]
		actor := r.IntN(500)
		return activity{kind, person(actor), person((actor + 1 + r.IntN(100)) % 500)}
	}},
}

// BenchmarkLogToViews works through a log in MongoDB, partitions side by side, and
// then, in the same run, has the bare driver make one guarded upsert an event, in
// unordered bulk writes of the same size by as many callers, into a collection
// with the same two indexes. ratio is ours to the driver's.
func BenchmarkLogToViews(b *testing.B) {
	for _, load := range loads {
		b.Run(load.name, func(b *testing.B) {
			random := rand.New(rand.NewPCG(3, 4))
			drawn := make([][]activity, partitions)
			for range acts {
				a := load.drawn(random)
				p := events.PartitionOf(a.actor, partitions)
				drawn[p] = append(drawn[p], a)
			}
			var ours, bare time.Duration
			for b.Loop() {
				b.StopTimer()
				db := servertest.Database(b, "projections")
				written := fill(b, db, drawn)
				s := created(b, db)
				b.StartTimer()
				begin := time.Now()
				workThrough(b, written, views.Handler(s))
				ours += time.Since(begin)
				b.StopTimer()
				bare += upsertBare(b, db, drawn)
				b.StartTimer()
			}
			n := float64(b.N * acts)
			b.ReportMetric(n/ours.Seconds(), "events/s")
			b.ReportMetric(n/bare.Seconds(), "bare-upserts/s")
			b.ReportMetric(bare.Seconds()/ours.Seconds(), "ratio")
		})
	}
}

// fill writes the log.
func fill(b *testing.B, db *mongo.Database, drawn [][]activity) log.Reader {
	if err := mongolog.Create(b.Context(), db, events.ActivityLog, partitions); err != nil {
		b.Fatal(err)
	}
	store := mongolog.Open(db, events.ActivityLog, partitions)
	l := log.New(store, log.Options{})
	defer l.Close()
	var pending []*log.Pending
	for _, activities := range drawn {
		for i, a := range activities {
			at := time.Unix(int64(i), 0)
			p, err := l.Submit(events.Event{
				ID: uuid.New(), Type: a.kind, Stream: a.actor, OccurredAt: at,
				Data: events.Activity{Target: a.target, JoinedAt: at}.AppendJSON(nil),
			})
			if err != nil {
				b.Fatal(err)
			}
			pending = append(pending, p)
		}
	}
	for _, p := range pending {
		if _, err := p.Wait(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	return store
}

func workThrough(b *testing.B, l log.Reader, handle subscription.Handler) {
	ctx, cancel := context.WithCancel(b.Context())
	sub := subscription.New(subscription.Config{Log: l, Group: "bench", Handler: handle, MaxBatch: batchSize})
	var run sync.WaitGroup
	run.Go(func() { _ = sub.Run(ctx) })
	if err := sub.CatchUp(ctx); err != nil {
		b.Fatal(err)
	}
	cancel()
	run.Wait()
}

func upsertBare(b *testing.B, db *mongo.Database, drawn [][]activity) time.Duration {
	coll := db.Collection("bare")
	_, err := coll.Indexes().CreateMany(b.Context(), []mongo.IndexModel{
		{Keys: bson.D{{Key: "t", Value: 1}, {Key: "h", Value: 1}, {Key: "l", Value: -1}, {Key: "a", Value: -1}}},
		{Keys: bson.D{{Key: "a", Value: 1}, {Key: "l", Value: -1}, {Key: "t", Value: -1}}},
	})
	if err != nil {
		b.Fatal(err)
	}
	id := func(u uuid.UUID) bson.Binary { return bson.Binary{Subtype: bson.TypeBinaryUUID, Data: u[:]} }
	begin := time.Now()
	var callers sync.WaitGroup
	for _, activities := range drawn {
		callers.Go(func() {
			for from := 0; from < len(activities); from += batchSize {
				var writes []mongo.WriteModel
				for i, a := range activities[from:min(from+batchSize, len(activities))] {
					n := int64(from + i + 1)
					writes = append(writes, mongo.NewUpdateOneModel().SetUpsert(true).
						SetFilter(bson.D{
							{Key: "_id", Value: bson.Binary{Data: append(a.actor[:], a.target[:]...)}},
							{Key: "p", Value: bson.D{{Key: "$not", Value: bson.D{{Key: "$gte", Value: n}}}}},
						}).
						SetUpdate(bson.D{
							{Key: "$inc", Value: bson.D{{Key: "n", Value: 1}}},
							{Key: "$max", Value: bson.D{{Key: "l", Value: n}}},
							{Key: "$min", Value: bson.D{{Key: "f", Value: n}}},
							{Key: "$set", Value: bson.D{{Key: "p", Value: n}}},
							{Key: "$setOnInsert", Value: bson.D{{Key: "a", Value: id(a.actor)}, {Key: "t", Value: id(a.target)}, {Key: "h", Value: false}}},
						}))
				}
				if _, err := coll.BulkWrite(b.Context(), writes, options.BulkWrite().SetOrdered(false)); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	callers.Wait()
	return time.Since(begin)
}

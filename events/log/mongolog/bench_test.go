package mongolog_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log/mongolog"
)

// bare is what a program without this package would insert.
func bare(c events.Commit) bson.D {
	return bson.D{
		{Key: "_id", Value: int64(c.First)}, //nolint:gosec // small
		{Key: "n", Value: int32(c.Count)},   //nolint:gosec // small
		{Key: "w", Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: c.Writer[:]}},
		{Key: "t", Value: c.RecordedAt},
		{Key: "e", Value: bson.Binary{Data: c.Bytes()}},
	}
}

// activities are as large as the ones that the activity service writes.
func activities(n int) []events.Event {
	evs := make([]events.Event, n)
	for i := range evs {
		evs[i] = events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: recorded,
			Data: events.Activity{Target: uuid.New(), JoinedAt: recorded}.AppendJSON(nil),
		}
	}
	return evs
}

func majority(coll *mongo.Collection) *mongo.Collection {
	return coll.Clone(options.Collection().SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Majority()))
}

// BenchmarkInsert compares Store.Insert with the bare driver inserting the same
// documents. The two take turns, so that what else the machine does meets both.
// Making the commits is counted for neither.
func BenchmarkInsert(b *testing.B) {
	const turn = 20 // commits a writer inserts in one turn
	for _, writers := range []int{1, 16} {
		for _, n := range []int{1, 100, 500} {
			b.Run(fmt.Sprintf("writers=%d/events=%d", writers, n), func(b *testing.B) {
				db := database(b, nil)
				s := newStore(b, db, 2*writers) // the upper half of the partitions is the bare driver's
				evs := activities(n)
				first := uint64(1)
				insertAll := func(from int, put func(events.Commit) error) time.Duration {
					commits := make([][]events.Commit, writers)
					for w := range commits {
						for i := range uint64(turn) {
							c, err := events.Encode(logName, from+w, first+i*uint64(n), recorded, uuid.New(), evs) //nolint:gosec // small
							if err != nil {
								b.Fatal(err)
							}
							commits[w] = append(commits[w], c)
						}
					}
					var wg sync.WaitGroup
					begin := time.Now()
					for _, own := range commits {
						wg.Go(func() {
							for _, c := range own {
								if err := put(c); err != nil {
									b.Error(err)
								}
							}
						})
					}
					wg.Wait()
					return time.Since(begin)
				}
				var store, driver time.Duration
				for b.Loop() {
					store += insertAll(0, func(c events.Commit) error { return s.Insert(b.Context(), c, nil) })
					driver += insertAll(writers, func(c events.Commit) error {
						_, err := majority(db.Collection(mongolog.CollectionName(logName, c.Partition))).InsertOne(b.Context(), bare(c))
						return err
					})
					first += turn * uint64(n) //nolint:gosec // small
				}
				compare(b, b.N*writers*turn*n, store, driver)
			})
		}
	}
}

// BenchmarkRead compares reading a partition, decoded and checked, with a bare
// cursor over the same documents.
func BenchmarkRead(b *testing.B) {
	const commits, each = 400, 500
	db := database(b, nil)
	s := newStore(b, db, 1)
	evs := activities(each)
	for i := range uint64(commits) {
		c, err := events.Encode(logName, 0, i*each+1, recorded, uuid.New(), evs)
		if err != nil {
			b.Fatal(err)
		}
		insert(b, s, c)
	}
	coll := majority(db.Collection(mongolog.CollectionName(logName, 0)))
	var store, driver time.Duration
	for b.Loop() {
		begin, n := time.Now(), 0
		for c, err := range s.Read(b.Context(), 0, 0) {
			if err != nil {
				b.Fatal(err)
			}
			n += c.Count
		}
		store += time.Since(begin)
		if n != commits*each {
			b.Fatalf("read %d events", n)
		}
		begin, n = time.Now(), 0
		cur, err := coll.Find(b.Context(), bson.D{}, options.Find().SetSort(bson.D{{Key: "_id", Value: 1}}))
		if err != nil {
			b.Fatal(err)
		}
		for cur.Next(b.Context()) {
			n++
		}
		driver += time.Since(begin)
		if err := cur.Err(); err != nil || n != commits {
			b.Fatalf("read %d commits (%v)", n, err)
		}
	}
	compare(b, b.N*commits*each, store, driver)
}

// compare reports the events a second of either, and the store's share of the
// bare driver's rate.
func compare(b *testing.B, n int, store, driver time.Duration) {
	b.ReportMetric(float64(n)/store.Seconds(), "events/s")
	b.ReportMetric(float64(n)/driver.Seconds(), "bare-events/s")
	b.ReportMetric(driver.Seconds()/store.Seconds(), "of-bare")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkByKey looks up one stream of four versions among many.
func BenchmarkByKey(b *testing.B) {
	const streams, versions = 2000, 4
	s := newStore(b, database(b, nil), 1)
	ids := make([]uuid.UUID, streams)
	for i := range ids {
		ids[i] = uuid.New()
	}
	first := uint64(1)
	for v := range uint64(versions) {
		for _, id := range ids {
			insert(b, s, commitOf(b, 0, first, 1, 100), events.VersionKey(id, v+1))
			first++
		}
	}
	i := 0
	for b.Loop() {
		id := ids[i%streams]
		i++
		got, err := s.ByKey(b.Context(), 0, events.VersionKey(id, 0), events.VersionKey(id, 1<<64-1))
		if err != nil || len(got) != versions {
			b.Fatalf("%d commits (%v)", len(got), err)
		}
	}
}

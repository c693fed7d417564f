package mongolog_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/servertest"
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
				db := servertest.Database(b, "mongolog")
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
	db := servertest.Database(b, "mongolog")
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
	s := newStore(b, servertest.Database(b, "mongolog"), 1)
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

// BenchmarkWriters compares one writer with eight on the same 16 partitions under
// the same load: so many callers in all, spread over the writers, each of whom
// appends a batch of events of one partition and waits for the answer before the
// next. Each writer has connections of its own, as a process would. The two take
// turns, each on a log of its own, so that what else the machine does meets both.
// Beside the rates it reports what eight writers ask of the store for each commit: that does not hang
// on the machine.
func BenchmarkWriters(b *testing.B) {
	const (
		partitions = 16
		many       = 8
		perCaller  = 8 // batches that a caller appends in one turn, on average
	)
	for _, load := range []struct{ callers, batch int }{{256, 1}, {256, 10}, {256, 100}, {256, 500}} {
		b.Run(fmt.Sprintf("callers=%d/batch=%d", load.callers, load.batch), func(b *testing.B) {
			db := servertest.Database(b, "mongolog")
			clients := make([]*mongo.Client, many)
			for i := range clients {
				clients[i] = servertest.Client(b)
			}
			streams := make([]uuid.UUID, partitions)
			for i := range streams {
				for streams[i] = uuid.New(); events.PartitionOf(streams[i], partitions) != i; {
					streams[i] = uuid.New()
				}
			}
			turn := func(writers int) (took time.Duration, calls asked) {
				name := "log" + uuid.NewString()[:8]
				if err := mongolog.Create(b.Context(), db, name, partitions); err != nil {
					b.Fatal(err)
				}
				logs, stores := make([]*log.Log, writers), make([]counted, writers)
				for i := range logs {
					stores[i].Store = mongolog.Open(clients[i].Database(db.Name()), name, partitions)
					logs[i] = log.New(&stores[i], log.Options{Timeout: time.Minute}) // a busy machine makes it slow, not wrong
				}
				var left atomic.Int64
				left.Store(int64(perCaller * load.callers))
				var wg sync.WaitGroup
				begin := time.Now()
				for c := range load.callers {
					wg.Go(func() {
						for left.Add(-1) >= 0 {
							evs := activities(load.batch)
							for i := range evs {
								evs[i].Stream = streams[c%partitions]
							}
							if _, err := logs[c/partitions%writers].Append(b.Context(), evs...); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				took = time.Since(begin)
				for i := range logs {
					logs[i].Close()
					calls.inserts += stores[i].inserts.Load()
					calls.taken += stores[i].taken.Load()
					calls.reads += stores[i].reads.Load()
				}
				return took, calls
			}
			var one, eight time.Duration
			var calls asked
			for b.Loop() {
				took, _ := turn(1)
				one += took
				took, more := turn(many)
				eight += took
				calls.inserts, calls.taken, calls.reads = calls.inserts+more.inserts, calls.taken+more.taken, calls.reads+more.reads
			}
			n := float64(b.N * perCaller * load.callers * load.batch)
			commits := float64(calls.inserts - calls.taken)
			b.ReportMetric(n/one.Seconds(), "one-events/s")
			b.ReportMetric(n/eight.Seconds(), "eight-events/s")
			b.ReportMetric(one.Seconds()/eight.Seconds(), "of-one")
			b.ReportMetric(n/commits, "events/commit")
			b.ReportMetric(float64(calls.inserts)/commits, "inserts/commit")
			b.ReportMetric(float64(calls.reads)/commits, "reads/commit")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// asked is how often writers called their store.
type asked struct{ inserts, taken, reads int64 }

// counted is a store that counts what it is asked.
type counted struct {
	log.Store
	inserts, taken, reads atomic.Int64
}

func (s *counted) Insert(ctx context.Context, c events.Commit, keys []string) error {
	s.inserts.Add(1)
	err := s.Store.Insert(ctx, c, keys)
	if errors.Is(err, log.ErrTaken) {
		s.taken.Add(1)
	}
	return err
}

func (s *counted) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	s.reads.Add(1)
	return s.Store.Read(ctx, partition, after)
}

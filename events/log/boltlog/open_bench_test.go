package boltlog_test

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log/boltlog"
)

// BenchmarkOpen compares Open, which checks every page, with bbolt's own, on a
// file with a million events in commits of a hundred. The file is in memory.
func BenchmarkOpen(b *testing.B) {
	const commits, each = 10_000, 100
	path := filepath.Join(b.TempDir(), "log.db")
	db, err := boltlog.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	s, err := db.Log("activity", 1)
	if err != nil {
		b.Fatal(err)
	}
	evs := make([]events.Event, each)
	for i := range evs {
		evs[i] = events.Event{
			ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: recorded,
			Data: events.Activity{Target: uuid.New(), JoinedAt: recorded}.AppendJSON(nil),
		}
	}
	for i := range uint64(commits) {
		c, err := events.Encode("activity", 0, i*each+1, recorded, uuid.UUID{9}, evs)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Insert(b.Context(), c, nil); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
	var ours, bare time.Duration
	for b.Loop() {
		begin := time.Now()
		db, err := boltlog.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		ours += time.Since(begin)
		if err := db.Close(); err != nil {
			b.Fatal(err)
		}
		begin = time.Now()
		plain, err := bolt.Open(path, 0o600, &bolt.Options{NoFreelistSync: true, FreelistType: bolt.FreelistMapType})
		if err != nil {
			b.Fatal(err)
		}
		bare += time.Since(begin)
		if err := plain.Close(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(ours.Seconds()*1000/float64(b.N), "ms/open")
	b.ReportMetric(bare.Seconds()*1000/float64(b.N), "bare-ms/open")
	b.ReportMetric(0, "ns/op")
}

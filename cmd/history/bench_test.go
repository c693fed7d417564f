package history_test

import (
	"context"
	"encoding/binary"
	"iter"
	"runtime"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// shelf is a log.Reader of commits that are encoded already.
type shelf struct {
	*book
	commits [][]events.Commit
}

func (s *shelf) Partitions() int { return len(s.commits) }

func (s *shelf) Head(_ context.Context, partition int) (uint64, error) {
	return s.commits[partition][len(s.commits[partition])-1].Last(), nil
}

func (s *shelf) Read(_ context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		for _, c := range s.commits[partition] {
			if c.Last() > after && !yield(c, nil) {
				return
			}
		}
	}
}

// BenchmarkCheck checks two million events, each asked for by a call of its own,
// one in ten twice, and handed to one subscriber.
func BenchmarkCheck(b *testing.B) {
	const total, perCommit = 2_000_000, 100
	s := &shelf{book: &book{name: events.ActivityLog}, commits: make([][]events.Commit, events.ActivityPartitions)}
	before := heap()
	r := history.NewRecorder()
	var logBytes uint64
	var evs []events.Event
	heads := make([]uint64, events.ActivityPartitions)
	for n := 0; n < total; n += perCommit {
		actor := uuid.UUID{1: 1}
		binary.BigEndian.PutUint32(actor[12:], uint32(n))
		p := events.PartitionOf(actor, events.ActivityPartitions)
		evs = evs[:0]
		for range perCommit {
			evs = append(evs, events.Event{
				ID: uuid.New(), Type: events.ProfileVisited, Stream: actor, OccurredAt: noon,
				Data: events.Activity{Target: actor, JoinedAt: noon}.AppendJSON(nil),
			})
		}
		c, err := events.Encode(s.name, p, heads[p]+1, noon, uuid.UUID{9}, evs)
		if err != nil {
			b.Fatal(err)
		}
		s.commits[p] = append(s.commits[p], c)
		heads[p] = c.Last()
		logBytes += uint64(len(c.Bytes()))
		record(r, c)
	}
	r.Exclusive(s.name)
	r.Complete("views", s.name)
	recorded := heap() - before - logBytes
	b.ReportAllocs()
	for b.Loop() {
		vs, err := r.Check(b.Context(), log.Reader(s))
		if err != nil || len(vs) > 0 {
			b.Fatal(vs, err)
		}
	}
	b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
	b.ReportMetric(float64(recorded)/total, "B-recorded/event")
	runtime.KeepAlive(r)
}

// record asks for the commit's events, one in ten twice, and hands them over.
func record(r *history.Recorder, c events.Commit) {
	for e := range c.Events() {
		in := history.Intent{ID: e.ID, Type: e.Type, Stream: e.Stream}
		if e.Sequence%10 == 0 {
			r.Invoke("anna", c.Log, in).Unknown("timeout")
		}
		r.Invoke("anna", c.Log, in).Acknowledge(e.Position)
	}
	for e := range c.Events() {
		r.Deliver("views", c.Log, e)
	}
}

// heap is the memory in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

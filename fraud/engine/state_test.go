package engine_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/engine"
)

// BenchmarkState is what a user costs who has just joined, visited 15 people and liked
// 5 of them, so that every shipped rule has something of them, with the engines of 16
// partitions: in bytes of the heap.
func BenchmarkState(b *testing.B) {
	const partitions, users, visits, likes = 16, 100_000, 15, 5
	rules := shipped(b)
	for b.Loop() {
		before := heap()
		all := engine.NewUsers()
		engines := make([]*engine.Engine, partitions)
		for i := range engines {
			g, err := engine.NewWithUsers(all, rules)
			if err != nil {
				b.Fatal(err)
			}
			engines[i] = g
		}
		sequence := uint64(0)
		for n := range visits + likes {
			for u := range users {
				sequence++
				at := start.Add(time.Duration(n) * 20 * time.Second).Add(time.Duration(u) * time.Microsecond)
				e := events.Recorded{
					Event: events.Event{
						Type: events.ProfileVisited, Stream: uuid.UUID{1, byte(u), byte(u >> 8), byte(u >> 16)}, OccurredAt: at,
						Data: events.Activity{Target: uuid.UUID{1, byte(u + n%visits + 1), byte((u + n%visits + 1) >> 8), byte((u + n%visits + 1) >> 16)}, JoinedAt: start}.AppendJSON(nil),
					},
					Position: events.Position{Sequence: sequence}, RecordedAt: at,
				}
				if n >= visits {
					e.Type = events.ProfileLiked
				}
				if hits := engines[u%partitions].Process(&e, nil); hits != nil {
					b.Fatal(hits)
				}
			}
		}
		b.ReportMetric(float64(heap()-before)/users, "B/user")
		runtime.KeepAlive(engines)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far below
}

package log_test

import (
	"context"
	"iter"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// What a call costs the server of the modelled store, as measured on MongoDB's
// wire on a machine of two cores; a refused insert is taken to cost as much as
// one that is accepted.
const (
	modelCores    = 2
	modelInsert   = 330 * time.Microsecond
	modelPerEvent = 1750 * time.Nanosecond
	modelQuery    = 200 * time.Microsecond
	modelPerRead  = 850 * time.Nanosecond
	modelWay      = 50 * time.Microsecond // on the wire, there or back
)

// modelled is a store in a bubble's time: calls wait for one of the server's cores
// and take as long as they would.
type modelled struct {
	cores chan struct{}

	mu      sync.Mutex
	parts   [][]events.Commit
	inserts int
	taken   int
	reads   int
}

func newModelled(partitions int) *modelled {
	return &modelled{parts: make([][]events.Commit, partitions)}
}

func (m *modelled) work(d time.Duration, do func()) {
	time.Sleep(modelWay)
	m.cores <- struct{}{}
	time.Sleep(d)
	m.mu.Lock()
	do()
	m.mu.Unlock()
	<-m.cores
	time.Sleep(modelWay)
}

func (m *modelled) Name() string    { return "test" }
func (m *modelled) Partitions() int { return len(m.parts) }

func (m *modelled) head(partition int) uint64 {
	if n := len(m.parts[partition]); n > 0 {
		return m.parts[partition][n-1].Last()
	}
	return 0
}

func (m *modelled) Insert(_ context.Context, c events.Commit, _ []string) (err error) {
	m.work(modelInsert+time.Duration(c.Count)*modelPerEvent, func() {
		m.inserts++
		if c.First != m.head(c.Partition)+1 {
			m.taken++
			err = log.ErrTaken
			return
		}
		m.parts[c.Partition] = append(m.parts[c.Partition], c)
	})
	return err
}

func (m *modelled) Read(_ context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		var commits []events.Commit
		m.work(modelQuery, func() {
			all := m.parts[partition]
			i, _ := slices.BinarySearchFunc(all, after+1, func(c events.Commit, at uint64) int { return int(c.First) - int(at) }) //nolint:gosec // small
			commits = all[i:]
			m.reads++
		})
		n := 0
		for _, c := range commits {
			n += c.Count
		}
		m.work(modelQuery+time.Duration(n)*modelPerRead, func() {})
		for _, c := range commits {
			if !yield(c, nil) {
				return
			}
		}
	}
}

func (m *modelled) Head(_ context.Context, partition int) (head uint64, _ error) {
	m.work(modelQuery, func() { head = m.head(partition) })
	return head, nil
}

func (m *modelled) Held(context.Context, int, []string) (map[string]bool, error) { return nil, nil }

func (m *modelled) ByKey(context.Context, int, string, string) ([]events.Commit, error) {
	return nil, nil
}

// load has so many callers, spread over the writers and 16 partitions, append a
// batch and wait for the answer before the next, and counts what the store does.
func load(t *testing.T, writers, callers, batch int) *modelled {
	const partitions, times = 16, 4
	m := newModelled(partitions)
	synctest.Test(t, func(t *testing.T) {
		m.cores = make(chan struct{}, modelCores)
		logs := make([]*log.Log, writers)
		for i := range logs {
			logs[i] = log.New(m, log.Options{})
		}
		streams := make([]uuid.UUID, partitions)
		for i := range streams {
			streams[i] = simStream(false, i, partitions, 0)
		}
		left := callers * times
		var mu sync.Mutex
		var wg sync.WaitGroup
		for c := range callers {
			wg.Go(func() {
				for {
					mu.Lock()
					left--
					done := left < 0
					mu.Unlock()
					if done {
						return
					}
					evs := make([]events.Event, batch)
					for i := range evs {
						evs[i] = visit(i)
						evs[i].Stream = streams[c%partitions]
					}
					if _, err := logs[c/partitions%writers].Append(t.Context(), evs...); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		for _, l := range logs {
			l.Close()
		}
	})
	return m
}

func TestWritersThatMeetWasteLittleOfTheStore(t *testing.T) {
	const most = 2.4 // inserts for each commit; without yielding it is 3.3
	for _, l := range []struct{ callers, batch int }{{256, 1}, {256, 100}} {
		if m := load(t, 1, l.callers, l.batch); m.taken != 0 {
			t.Errorf("%+v: one writer was refused %d inserts", l, m.taken)
		}
		m := load(t, 8, l.callers, l.batch)
		if each := float64(m.inserts) / float64(m.inserts-m.taken); each > most {
			t.Errorf("%+v: eight writers needed %.2f inserts for each commit, at most %.1f are expected", l, each, most)
		} else {
			t.Logf("%+v: %.2f inserts and %.2f reads for each of %d commits", l, each, float64(m.reads)/float64(m.inserts-m.taken), m.inserts-m.taken)
		}
	}
}

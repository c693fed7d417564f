// Package order is the one order of all partitions' events in which rules by target are
// given them. A log has an order within each partition only; who visited and liked a
// user may stand in any of them.
//
// A cut is a sequence for each partition. Between two cuts events go by their rule time;
// within a partition none goes before its predecessor; at one time those of a lower
// partition go first. So the order follows from the log and the cuts alone, whoever
// reads when, and reading it takes no more memory than a commit of each partition.
package order

import (
	"container/heap"
	"context"
	"iter"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Cut is, by partition, up to which sequence events are on this side of it.
type Cut []uint64

// Between yields the events after one cut up to another, in the order. The last pair may
// carry an error.
func Between(ctx context.Context, r log.Reader, from, to Cut) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		var m merge
		defer func() {
			for _, p := range m {
				p.stop()
			}
		}()
		for n := range to {
			if from[n] >= to[n] {
				continue
			}
			p := &partition{number: n, to: to[n]}
			p.next, p.stop = iter.Pull2(log.Events(ctx, r, n, from[n]))
			if !m.add(p, yield) {
				return
			}
		}
		for len(m) > 0 {
			p := m[0]
			if !yield(p.event, nil) {
				return
			}
			if p.event.Sequence == p.to {
				p.stop()
				heap.Pop(&m)
				continue
			}
			if err := p.advance(); err != nil {
				yield(events.Recorded{}, err)
				return
			}
			heap.Fix(&m, 0)
		}
	}
}

// partition is one of those that are merged, at its next event.
type partition struct {
	number int
	to     uint64
	next   func() (events.Recorded, error, bool)
	stop   func()
	event  events.Recorded
	at     time.Time // the latest rule time so far
}

func (p *partition) advance() error {
	e, err, ok := p.next()
	if err == nil && !ok {
		err = log.ErrNotFound
	}
	if err != nil {
		return err
	}
	p.event = e
	at := e.RecordedAt
	if a, err := events.ParseActivity(e.Data); err == nil && isActivity(e.Type) {
		at = events.RuleTime(e, a)
	}
	if at.After(p.at) {
		p.at = at
	}
	return nil
}

func isActivity(eventType string) bool {
	return eventType == events.ProfileVisited || eventType == events.ProfileLiked || eventType == events.LikeWithdrawn
}

// merge is a heap of partitions.
type merge []*partition

func (m *merge) add(p *partition, yield func(events.Recorded, error) bool) bool {
	if err := p.advance(); err != nil {
		p.stop()
		yield(events.Recorded{}, err)
		return false
	}
	heap.Push(m, p)
	return true
}

func (m merge) Len() int      { return len(m) }
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(p any)   { *m = append(*m, p.(*partition)) } //nolint:forcetypeassert // add's

func (m merge) Less(i, j int) bool {
	if c := m[i].at.Compare(m[j].at); c != 0 {
		return c < 0
	}
	return m[i].number < m[j].number
}

func (m *merge) Pop() any {
	last := len(*m) - 1
	p := (*m)[last]
	*m = (*m)[:last]
	return p
}

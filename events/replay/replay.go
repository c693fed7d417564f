// Package replay reads a whole log back, filtered, as one stream.
//
// It promises each partition's events in the partition's order, and the
// partitions merged by when their events occurred; where times are equal, the
// lower partition goes first. So the stream is the same however often it is
// read, and in order of time wherever each partition is.
package replay

import (
	"container/heap"
	"context"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Filter says which events to keep. Its zero value keeps all.
type Filter struct {
	// Types keeps events of these types; all if empty.
	Types []string
	// Actor keeps the events of one stream, Target those whose payload has this
	// target.
	Actor, Target uuid.UUID
	// Since and Until bound when the event occurred: since ≤ t < until.
	Since, Until time.Time
	// Partition keeps one partition's events if it is not nil, After those of it
	// with a higher sequence.
	Partition *int
	After     uint64
	// Limit ends the stream after so many events if it is above 0.
	Limit int
}

// Validate reports the first fault of the filter for a log.
func (f Filter) Validate(r log.Reader) error {
	switch {
	case f.Partition != nil && (*f.Partition < 0 || *f.Partition >= r.Partitions()):
		return fmt.Errorf("partition: %s has the partitions 0 to %d", r.Name(), r.Partitions()-1)
	case f.After > 0 && f.Partition == nil:
		return fmt.Errorf("after: is a sequence within a partition; give the partition too")
	case !f.Since.IsZero() && !f.Until.IsZero() && !f.Since.Before(f.Until):
		return fmt.Errorf("until: must be later than since")
	case f.Limit < 0:
		return fmt.Errorf("limit: must not be negative")
	}
	return nil
}

func (f *Filter) keeps(e *events.Recorded) bool {
	if len(f.Types) > 0 {
		found := false
		for _, t := range f.Types {
			found = found || t == e.Type
		}
		if !found {
			return false
		}
	}
	if f.Actor != uuid.Nil && e.Stream != f.Actor ||
		!f.Since.IsZero() && e.OccurredAt.Before(f.Since) ||
		!f.Until.IsZero() && !e.OccurredAt.Before(f.Until) {
		return false
	}
	if f.Target != uuid.Nil {
		a, err := events.ParseActivity(e.Data)
		return err == nil && a.Target == f.Target
	}
	return true
}

// Events yields the log's events that the filter keeps, up to the end that each
// partition has when it is reached. The last pair may carry an error.
func Events(ctx context.Context, r log.Reader, f Filter) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		if err := f.Validate(r); err != nil {
			yield(events.Recorded{}, err)
			return
		}
		m := merge{}
		defer m.stop()
		for p := range r.Partitions() {
			if f.Partition != nil && *f.Partition != p || f.Actor != uuid.Nil && events.PartitionOf(f.Actor, r.Partitions()) != p {
				continue
			}
			s := &source{partition: p, after: f.After}
			s.next, s.stop = iter.Pull2(r.Read(ctx, p, f.After))
			m.all = append(m.all, s)
			if ok, err := s.advance(); err != nil {
				yield(events.Recorded{}, err)
				return
			} else if ok {
				m.heap = append(m.heap, s)
			}
		}
		heap.Init(&m.heap)
		for left := f.Limit; len(m.heap) > 0; {
			s := m.heap[0]
			if e := s.head(); f.keeps(e) {
				if !yield(*e, nil) {
					return
				}
				if left--; left == 0 {
					return
				}
			}
			ok, err := s.advance()
			switch {
			case err != nil:
				yield(events.Recorded{}, err)
				return
			case ok:
				heap.Fix(&m.heap, 0)
			default:
				heap.Pop(&m.heap)
			}
		}
	}
}

// source is one partition on its way through the merge.
type source struct {
	partition int
	after     uint64
	next      func() (events.Commit, error, bool)
	stop      func()
	events    []events.Recorded
	at        int
}

func (s *source) head() *events.Recorded { return &s.events[s.at] }

// advance moves to the next event and says whether there is one.
func (s *source) advance() (bool, error) {
	if s.at+1 < len(s.events) {
		s.at++
		return true, nil
	}
	for {
		c, err, ok := s.next()
		if !ok || err != nil {
			return false, err
		}
		s.events, s.at = s.events[:0], 0
		for e := range c.EventsAfter(s.after) {
			s.events = append(s.events, e)
		}
		if len(s.events) > 0 {
			return true, nil
		}
	}
}

type merge struct {
	all  []*source
	heap sources
}

func (m *merge) stop() {
	for _, s := range m.all {
		s.stop()
	}
}

type sources []*source

func (h sources) Len() int { return len(h) }
func (h sources) Less(i, j int) bool {
	a, b := h[i].head().OccurredAt, h[j].head().OccurredAt
	if a.Equal(b) {
		return h[i].partition < h[j].partition
	}
	return a.Before(b)
}
func (h sources) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *sources) Push(x any)   { *h = append(*h, x.(*source)) }
func (h *sources) Pop() any {
	last := len(*h) - 1
	s := (*h)[last]
	*h = (*h)[:last]
	return s
}

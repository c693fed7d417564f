// Package order is the one order of all partitions' events in which some rules are given
// them. A log has an order within each partition only, that of its actors; who visited
// and liked a user may stand in any of them.
//
// A cut is a sequence for each partition. Between two cuts events go by their rule time;
// within a partition none goes before its predecessor; at one time those of a lower
// partition go first. So the order follows from the activity log and the cuts alone,
// whoever reads when, and reading it takes no more memory than a commit of each
// partition. The cuts are events of the fraud log (see Recorded).
package order

import (
	"container/heap"
	"context"
	"iter"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Cut is, by partition, up to which sequence events are on this side of it; a partition
// that is not listed has none.
type Cut []uint64

// Reader reads the activity log in the order, from its beginning, cut by cut. It is not
// safe for concurrent use.
type Reader struct {
	ctx        context.Context //nolint:containedctx // of the reads that stay open between calls
	log        log.Reader
	partitions []*partition
}

// NewReader makes a reader that stands at the log's beginning. ctx bounds all that it
// reads. It must be closed.
func NewReader(ctx context.Context, activity log.Reader) *Reader {
	r := &Reader{ctx: ctx, log: activity, partitions: make([]*partition, activity.Partitions())}
	for n := range r.partitions {
		r.partitions[n] = &partition{number: n}
	}
	return r
}

// Close ends what the reader has open.
func (r *Reader) Close() {
	for _, p := range r.partitions {
		p.close()
	}
}

// To yields the events from where the reader stands up to a cut, in the order. The last
// pair may carry an error. Whoever breaks off, or gets an error, goes on behind the last
// event with another call for the same cut.
func (r *Reader) To(to Cut) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		var m merge
		for _, p := range r.partitions {
			if p.at >= to.At(p.number) {
				continue
			}
			if err := r.peek(p); err != nil {
				yield(events.Recorded{}, err)
				return
			}
			m = append(m, p)
		}
		heap.Init(&m)
		for len(m) > 0 {
			p := m[0]
			e := p.take()
			if !yield(e, nil) {
				return
			}
			if p.at >= to.At(p.number) {
				heap.Pop(&m)
				continue
			}
			if err := r.peek(p); err != nil {
				yield(events.Recorded{}, err)
				return
			}
			heap.Fix(&m, 0)
		}
		for _, p := range r.partitions {
			p.latest = time.Time{}
		}
	}
}

// peek reads a partition's next event, which there must be.
func (r *Reader) peek(p *partition) error {
	for again := p.next != nil; !p.waits; again = false {
		if p.next == nil {
			p.next, p.stop = iter.Pull2(log.Events(r.ctx, r.log, p.number, p.at))
		}
		e, err, ok := p.next()
		if err == nil && !ok && !again {
			err = log.ErrNotFound
		}
		if err != nil || !ok {
			p.close()
		}
		if err != nil {
			return err
		}
		p.event, p.waits = e, ok
	}
	p.time()
	return nil
}

// partition is one of those that are merged.
type partition struct {
	number int
	at     uint64 // up to where it has been taken
	event  events.Recorded
	waits  bool      // the event is read, and not taken yet
	latest time.Time // rule time since the cut
	next   func() (events.Recorded, error, bool)
	stop   func()
}

// time takes in the rule time of the event that waits.
func (p *partition) time() {
	if !p.waits {
		return
	}
	at := p.event.RecordedAt
	if isActivity(p.event.Type) {
		if a, err := events.ParseActivity(p.event.Data); err == nil {
			at = events.RuleTime(p.event, a)
		}
	}
	if at.After(p.latest) {
		p.latest = at
	}
}

func (p *partition) take() events.Recorded {
	p.at, p.waits = p.event.Sequence, false
	return p.event
}

func (p *partition) close() {
	if p.stop != nil {
		p.stop()
	}
	p.next, p.stop = nil, nil
}

func isActivity(eventType string) bool {
	return eventType == events.ProfileVisited || eventType == events.ProfileLiked || eventType == events.LikeWithdrawn
}

// merge is a heap of partitions.
type merge []*partition

func (m merge) Len() int      { return len(m) }
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(p any)   { *m = append(*m, p.(*partition)) } //nolint:forcetypeassert // a partition

func (m merge) Less(i, j int) bool {
	if c := m[i].latest.Compare(m[j].latest); c != 0 {
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

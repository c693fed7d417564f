package order

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Stream is the stream of the cuts in the fraud log. A cut's version is its number, so
// that of those who make the next one at once one does.
var Stream = uuid.MustParse("5a1c7be2-93d4-5f08-9c61-7e2f40b8d913")

// Recorded is a cut that is on record. The zero value stands before the first.
type Recorded struct {
	// Number is from 1 on.
	Number  uint64
	Through Cut
	// Sequence is where it stands in its partition of the fraud log.
	Sequence uint64
}

// At is the cut at a partition: its last event on this side.
func (c Cut) At(partition int) uint64 {
	if partition < len(c) {
		return c[partition]
	}
	return 0
}

// Covers says whether nothing of another cut is beyond this one.
func (c Cut) Covers(other Cut) bool {
	for p := range other {
		if other[p] > c.At(p) {
			return false
		}
	}
	return true
}

// Heads is the cut behind everything that is in the log now.
func Heads(ctx context.Context, r log.Reader) (Cut, error) {
	c := make(Cut, r.Partitions())
	for p := range c {
		var err error
		if c[p], err = r.Head(ctx, p); err != nil {
			return nil, fmt.Errorf("read the head of %s/%d: %w", r.Name(), p, err)
		}
	}
	return c, nil
}

// Next is the event that makes the next cut; false if it would cut nothing off.
func (c Recorded) Next(heads Cut, now time.Time) (e events.Event, ok bool, err error) {
	if c.Through.Covers(heads) {
		return events.Event{}, false, nil
	}
	through := slices.Clone(heads)
	for p := range through {
		through[p] = max(through[p], c.Through.At(p))
	}
	data, err := json.Marshal(events.Cut{Through: through})
	if err != nil {
		return events.Event{}, false, fmt.Errorf("make cut %d: %w", c.Number+1, err)
	}
	return events.Event{
		ID: events.DeriveID(Stream, strconv.FormatUint(c.Number+1, 10)), Type: events.OrderCut, Stream: Stream,
		Version: c.Number + 1, OccurredAt: now, Data: data,
	}, true, nil
}

// follow is the cut that an event of the fraud log makes after c; false if it makes none.
// One that goes back, or cannot be read, cuts nothing off there.
func (c Recorded) follow(e events.Recorded) (Recorded, bool) {
	if e.Type != events.OrderCut || e.Stream != Stream || e.Version <= c.Number {
		return c, false
	}
	next := Recorded{Number: e.Version, Through: c.Through, Sequence: e.Sequence}
	if read, err := events.Unmarshal[events.Cut](e); err == nil && len(read.Through) >= len(c.Through) {
		next.Through = read.Through
		for p := range next.Through {
			next.Through[p] = max(next.Through[p], c.Through.At(p))
		}
	}
	return next, true
}

// At is the cut that stands at a sequence of its partition of the fraud log.
func At(ctx context.Context, fraud log.Reader, sequence uint64) (Recorded, error) {
	at := events.Position{Partition: events.PartitionOf(Stream, fraud.Partitions()), Sequence: sequence}
	e, err := log.Get(ctx, fraud, at)
	if err != nil {
		return Recorded{}, fmt.Errorf("read the cut at %d: %w", sequence, err)
	}
	c, ok := Recorded{}.follow(e)
	if !ok {
		return Recorded{}, fmt.Errorf("read the cut at %d: %w: there is a %s", sequence, events.ErrCorrupt, e.Type)
	}
	return c, nil
}

// After yields the cuts in a fraud log that follow one, in order, up to its end. The
// last pair may carry an error.
func After(ctx context.Context, fraud log.Reader, last Recorded) iter.Seq2[Recorded, error] {
	return func(yield func(Recorded, error) bool) {
		partition := events.PartitionOf(Stream, fraud.Partitions())
		for e, err := range log.Events(ctx, fraud, partition, last.Sequence) {
			if err != nil {
				yield(Recorded{}, fmt.Errorf("read the cuts after %d: %w", last.Number, err))
				return
			}
			next, ok := last.follow(e)
			if ok && !yield(next, nil) {
				return
			}
			last = next
		}
	}
}

// All yields the events of the activity log up to some heads, in the order that the cuts
// on record give them; what no cut has cut off yet comes last, as if there were one at
// the heads. The last pair may carry an error.
func All(ctx context.Context, activity, fraud log.Reader, heads Cut) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		r := NewReader(ctx, activity)
		defer r.Close()
		readTo := func(to Cut) bool {
			for e, err := range r.To(to) {
				if !yield(e, err) || err != nil {
					return false
				}
			}
			return true
		}
		for c, err := range After(ctx, fraud, Recorded{}) {
			if err != nil {
				yield(events.Recorded{}, err)
				return
			}
			to := slices.Clone(heads)
			for p := range to {
				to[p] = min(c.Through.At(p), heads[p])
			}
			if !readTo(to) {
				return
			}
			if c.Through.Covers(heads) {
				return
			}
		}
		readTo(heads)
	}
}

// Tip is the last cut on record, folded from the fraud log. It is safe for concurrent
// use.
type Tip struct {
	mu    sync.Mutex
	last  Recorded
	moved chan struct{} // closed, and made anew, when it moves
}

// NewTip makes one that stands before the first cut.
func NewTip() *Tip { return &Tip{moved: make(chan struct{})} }

// Apply folds in an event of the fraud log. One that is no cut, or an old one, changes
// nothing.
func (t *Tip) Apply(e events.Recorded) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next, ok := t.last.follow(e)
	if !ok {
		return
	}
	t.last = next
	close(t.moved)
	t.moved = make(chan struct{})
}

// Last is the last cut, and a channel that is closed when there is another.
func (t *Tip) Last() (Recorded, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.last, t.moved
}

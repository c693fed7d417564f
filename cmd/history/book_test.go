package history_test

import (
	"context"
	"encoding/binary"
	"errors"
	"iter"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// page is one commit of a book.
type page struct {
	first    uint64 // its first sequence; 0 for the one that follows
	recorded time.Time
	log      string // another than the book's, if any
	events   []events.Event
}

// book is a log.Reader of whatever commits are put into it, also such as no writer
// would have written.
type book struct {
	t     testing.TB
	name  string
	pages [][]page // by partition
	heads map[int]uint64
	ends  error // with what every reading ends
}

func (b *book) Name() string    { return b.name }
func (b *book) Partitions() int { return len(b.pages) }

func (b *book) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		next := uint64(1)
		for _, p := range b.pages[partition] {
			first, name := p.first, p.log
			if first == 0 {
				first = next
			}
			if name == "" {
				name = b.name
			}
			c, err := events.Encode(name, partition, first, p.recorded, uuid.UUID{9}, p.events)
			if err != nil {
				yield(events.Commit{}, err)
				return
			}
			next = c.Last() + 1
			if c.Last() > after && !yield(c, ctx.Err()) {
				return
			}
		}
		if b.ends != nil {
			yield(events.Commit{}, b.ends)
		}
	}
}

func (b *book) Head(ctx context.Context, partition int) (uint64, error) {
	if head, ok := b.heads[partition]; ok {
		return head, nil
	}
	return b.last(ctx, partition), nil
}

// last is the last sequence that can be read.
func (b *book) last(ctx context.Context, partition int) (head uint64) {
	for c, err := range b.Read(ctx, partition, 0) {
		if err == nil {
			head = c.Last()
		}
	}
	return head
}

func (b *book) ByKey(context.Context, int, string, string) ([]events.Commit, error) {
	return nil, errors.ErrUnsupported
}

// write adds a commit to the end of the partition and says where its events are.
func (b *book) write(partition int, evs ...events.Event) (at []events.Position) {
	first := b.last(b.t.Context(), partition) + 1
	b.pages[partition] = append(b.pages[partition], page{recorded: noon.Add(time.Duration(first) * time.Second), events: evs})
	for i := range evs {
		at = append(at, events.Position{Partition: partition, Sequence: first + uint64(i)})
	}
	return at
}

var noon = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// id is the n-th event's ID; evidence is read by it.
func id(n int) (u uuid.UUID) {
	binary.BigEndian.PutUint32(u[:], uint32(n))
	return u
}

// stream is the n-th of a partition.
func stream(partition, partitions, n int) uuid.UUID {
	for i := byte(1); ; i++ {
		if u := (uuid.UUID{15: i, 8: 0x80}); events.PartitionOf(u, partitions) == partition {
			if n--; n < 0 {
				return u
			}
		}
	}
}

package fraud

import (
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// maxListedBulks is how many bulk operations are listed, the latest. Each takes up to
// about 6 KB here, most of it its two notes, sealed; older ones are still there by their IDs.
const maxListedBulks = 10_000

// bulks is the latest bulk operations in summary, folded from the fraud log. It is
// safe for concurrent use.
type bulks struct {
	mu   sync.RWMutex
	list []bulkSummary // in the log's order
	last uint64        // the sequence of the latest that was folded in, listed or not
}

// bulkSummary is a bulk operation without its flags.
type bulkSummary struct {
	sequence         uint64
	id, by           uuid.UUID
	at               time.Time
	decision         string
	note             summarized
	filter           json.RawMessage
	changed, refused int
	undone           *bulkUndoing // never changed once it is there
}

// notes are those of the operation and of its undoing.
func (b bulkSummary) notes() [2]summarized {
	if b.undone == nil {
		return [2]summarized{b.note}
	}
	return [2]summarized{b.note, b.undone.note}
}

// summarized is a note as it is remembered: sealed, or that it is in the log in the
// clear.
type summarized struct {
	sealed *events.SealedText
	plain  bool
}

type bulkUndoing struct {
	by               uuid.UUID
	at               time.Time
	note             summarized
	changed, refused int
}

// Apply folds in an event of the fraud log; those that are about no bulk operation,
// and those folded in already, change nothing. The error says that it cannot be read.
func (b *bulks) Apply(e events.Recorded) error {
	switch e.Type {
	case events.BulkDecided:
		d, err := events.Unmarshal[events.BulkDecision](e)
		if err != nil {
			return err
		}
		b.decided(bulkSummary{
			sequence: e.Sequence, id: e.Stream, by: d.By, at: e.OccurredAt, decision: d.Decision, note: summarized{d.Sealed, d.Note != ""},
			filter: slices.Clone(d.Filter), changed: len(d.Flags), refused: len(d.Refused),
		})
	case events.BulkUndone:
		u, err := events.Unmarshal[events.BulkUndo](e)
		if err != nil {
			return err
		}
		b.undo(e.Stream, bulkUndoing{by: u.By, at: e.OccurredAt, note: summarized{u.Sealed, u.Note != ""}, changed: len(u.Flags), refused: len(u.Refused)})
	}
	return nil
}

// decided takes in an operation. The fraud log has one partition, so that whatever
// comes after the last one is new.
func (b *bulks) decided(s bulkSummary) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.sequence <= b.last {
		return
	}
	b.last = s.sequence
	if len(b.list) == maxListedBulks {
		b.list = slices.Delete(b.list, 0, 1)
	}
	b.list = append(b.list, s)
}

func (b *bulks) undo(id uuid.UUID, u bulkUndoing) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := len(b.list) - 1; i >= 0; i-- {
		if b.list[i].id == id {
			b.list[i].undone = &u
			return
		}
	}
}

// List returns up to limit operations, the newest first, of those before a sequence
// unless that is 0, and where the next page begins, 0 if there is none.
func (b *bulks) List(before uint64, limit int) (page []bulkSummary, next uint64) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	for _, s := range slices.Backward(b.list) {
		switch {
		case before > 0 && s.sequence >= before:
		case len(page) == limit:
			return page, page[limit-1].sequence
		default:
			page = append(page, s)
		}
	}
	return page, 0
}

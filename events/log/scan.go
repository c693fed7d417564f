package log

import (
	"context"
	"iter"

	"github.com/meet5/backend/events"
)

// Entry is what a store keeps in the place of one commit, be it whole or not.
type Entry struct {
	// Place says where it stands, in the store's own words.
	Place string
	// Sequence is the number that it stands under; 0 if that is none.
	Sequence uint64
	// Commit is what it holds; the zero Commit if that cannot be read.
	Commit events.Commit
	// Err says what is wrong with it: one error, or several joined. It is nil for
	// a commit that is whole and where it belongs.
	Err error
}

// StoredKey is a key as a store keeps it.
type StoredKey struct {
	// Place says where it stands, in the store's own words.
	Place string
	// Key is the key, First the first sequence of the commit that holds it.
	Key   string
	First uint64
	// Err says why it is no key; Key and First mean nothing then.
	Err error
}

// Scanner walks over all that a store keeps of a log, harmed or not, where a
// Store's Read ends at the first harm. It is for checking and changes nothing.
// Both stores have one.
type Scanner interface {
	// Name is the log's name.
	Name() string
	// Partitions is the number of partitions.
	Partitions() int
	// Entries yields what is kept as the partition's commits, by the numbers that
	// they stand under; what stands under none comes anywhere. An entry that is
	// harmed does not end the walk; a pair with an error does: the store cannot be
	// read further, for a reason that is no harm. An entry about the log as a whole
	// has no Commit and comes with partition 0.
	Entries(ctx context.Context, partition int) iter.Seq2[Entry, error]
	// Keys yields the partition's keys in the same way, in no order.
	Keys(ctx context.Context, partition int) iter.Seq2[StoredKey, error]
}

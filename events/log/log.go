// Package log is the append-only log that everything else is folded from.
//
// A log has partitions, fixed when it is created. An event's partition follows
// from its stream. It promises, and logtest checks on every store:
//
//  1. an acknowledged append is durable;
//  2. sequence numbers within a partition are dense (1, 2, 3 …), assigned in
//     commit order, and a reader never sees n+1 before n;
//  3. appending an event ID again within the retained window (the partition's
//     last Window events) returns the first position and writes nothing;
//  4. an append with a stream version fails with ErrConflict if the stream does
//     not stand just before it;
//  5. a claim is held once: it is taken atomically with the event that takes it,
//     and a second one fails with ErrConflict.
//
// All of it holds with any number of writers, in any number of processes, on one
// store. How: a writer keeps one commit in flight per partition and inserts it
// under the sequence after the last that it has seen. The store refuses a second
// commit under the same sequence, so that number is both the sequencer and the
// fence: who loses yields for a moment, reads what was written, folds it in and
// tries again. Appends that arrive while a commit is in flight make up the next one.
//
// The package knows the protocol; a Store (boltlog, mongolog) knows how to keep
// commits.
package log

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Errors of the protocol, matched with errors.Is.
var (
	// ErrConflict: the stream has moved, or the claim is held. Nothing was
	// written; the same append will fail again.
	ErrConflict = errors.New("conflict")
	// ErrOverloaded: the partition's queue is full. Nothing was written.
	ErrOverloaded = errors.New("log overloaded")
	// ErrUnavailable: the store did not answer in time. The event may or may not
	// be written; appending the same ID again settles it.
	ErrUnavailable = errors.New("log unavailable")
	// ErrClosed: the log was closed.
	ErrClosed = errors.New("log closed")
	// ErrNotFound: there is no event at that place.
	ErrNotFound = errors.New("no such event")
)

// Errors of a store's Insert.
var (
	// ErrTaken: another commit stands under that sequence or holds one of the
	// keys. The commit was not written.
	ErrTaken = errors.New("sequence or key taken")
)

// ConflictError says what an append ran into. It is an ErrConflict.
type ConflictError struct {
	Event uuid.UUID
	// Claim is the claim that is held; empty when the stream's version moved.
	Claim string
}

func (e *ConflictError) Error() string {
	if e.Claim != "" {
		return fmt.Sprintf("event %s: the claim is held already", e.Event)
	}
	return fmt.Sprintf("event %s: its stream has moved", e.Event)
}

// Is makes errors.Is(err, ErrConflict) true.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

// Appended says where an event stands in the log.
type Appended struct {
	events.Position
	// RecordedAt is the commit's time; zero if Duplicate.
	RecordedAt time.Time
	// Duplicate says that the event's ID was there before; the position is the
	// first one's, and its content may differ: read it with Get.
	Duplicate bool
}

// Store keeps the commits of one log. Implementations are safe for concurrent
// use. boltlog and mongolog are the two; one that is reached over a network had
// better be a Gister, too.
type Store interface {
	// Name is the log's name.
	Name() string
	// Partitions is the number of partitions, at least 1.
	Partitions() int
	// Insert makes the commit durable under its first sequence, together with
	// keys. ErrTaken says for certain that it was not written because that
	// sequence or one of the keys is there; any other error leaves it open.
	Insert(ctx context.Context, c events.Commit, keys []string) error
	// Read yields up to the current end the partition's commits that hold a
	// sequence above after, in order. The last pair may carry an error.
	Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error]
	// Head is the sequence of the partition's last event, 0 if it is empty. It has
	// all that any call before has shown.
	Head(ctx context.Context, partition int) (uint64, error)
	// Held returns those of the keys that commits of the partition hold.
	Held(ctx context.Context, partition int, keys []string) (map[string]bool, error)
	// ByKey returns, in order, the partition's commits that hold a key k with
	// from ≤ k < to, bytewise.
	ByKey(ctx context.Context, partition int, from, to string) ([]events.Commit, error)
}

// Gist is what a writer has to know of a commit that another one wrote.
type Gist struct {
	First      uint64
	RecordedAt time.Time
	// IDs are those of its events, in order; at least one.
	IDs []uuid.UUID
}

// Gister is a Store that tells the gist of commits for much less than the commits
// themselves. Writers of the same partitions read what each other wrote, so that what
// this costs bounds how many there may be.
type Gister interface {
	Store

	// InsertWithGist is Insert for a partition that several write to: Gists costs
	// least for such commits.
	InsertWithGist(ctx context.Context, c events.Commit, keys []string) error

	// Gists yields up to the current end the gists of the partition's commits after
	// a sequence with which a commit ends, or 0, in order. The last pair may carry an
	// error.
	Gists(ctx context.Context, partition int, after uint64) iter.Seq2[Gist, error]
}

// Reader is what those who do not own a log may do with it: a Store without
// Insert.
type Reader interface {
	Name() string
	Partitions() int
	Head(ctx context.Context, partition int) (uint64, error)
	Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error]
	ByKey(ctx context.Context, partition int, from, to string) ([]events.Commit, error)
}

// Events yields a partition's events with a sequence above after, up to the
// current end. The last pair may carry an error.
func Events(ctx context.Context, r Reader, partition int, after uint64) iter.Seq2[events.Recorded, error] {
	return func(yield func(events.Recorded, error) bool) {
		for c, err := range r.Read(ctx, partition, after) {
			if err != nil {
				yield(events.Recorded{}, err)
				return
			}
			for e := range c.EventsAfter(after) {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}

// Get returns the event at a position, or ErrNotFound.
func Get(ctx context.Context, r Reader, at events.Position) (events.Recorded, error) {
	if at.Sequence > 0 {
		for e, err := range Events(ctx, r, at.Partition, at.Sequence-1) {
			if err != nil {
				return events.Recorded{}, err
			}
			return e, nil
		}
	}
	return events.Recorded{}, fmt.Errorf("%s/%d at %d: %w", r.Name(), at.Partition, at.Sequence, ErrNotFound)
}

// ReadStream returns the events of a versioned stream in order; none if nothing
// was written to it. It is exact at the moment of the call.
func ReadStream(ctx context.Context, s Reader, stream uuid.UUID) ([]events.Recorded, error) {
	partition := events.PartitionOf(stream, s.Partitions())
	commits, err := s.ByKey(ctx, partition, events.VersionKey(stream, 0), events.VersionKey(stream, 1<<64-1))
	if err != nil {
		return nil, fmt.Errorf("read stream %s of %s/%d: %w", stream, s.Name(), partition, err)
	}
	var out []events.Recorded
	for _, c := range commits {
		for e := range c.Events() {
			if e.Stream != stream || e.Version == 0 {
				continue
			}
			if e, err = events.Upcast(e); err != nil {
				return nil, err // one that cannot be read must not be taken for another type
			}
			out = append(out, e)
		}
	}
	return out, nil
}

// Claimant returns the event that holds a claim in a partition, or ErrNotFound.
func Claimant(ctx context.Context, s Reader, partition int, claim string) (events.Recorded, error) {
	key := events.ClaimKey(claim)
	commits, err := s.ByKey(ctx, partition, key, key+"\x00")
	if err != nil {
		return events.Recorded{}, fmt.Errorf("look up a claim of %s/%d: %w", s.Name(), partition, err)
	}
	for _, c := range commits {
		for e := range c.Events() {
			for _, held := range e.Claims {
				if held == claim {
					return e, nil
				}
			}
		}
	}
	return events.Recorded{}, fmt.Errorf("claim in %s/%d: %w", s.Name(), partition, ErrNotFound)
}

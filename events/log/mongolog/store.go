// Package mongolog keeps a log's commits in MongoDB: one collection per
// partition, one document per commit.
//
// It promises, beside what log.Store says:
//   - an Insert that was acknowledged is on the disks of a majority of the
//     replica set, and outlives the loss of the primary;
//   - reads go to the primary and see what a majority has: every acknowledged
//     commit, and none that could still be rolled back;
//   - what is read back is checked: the checksum, that the document is the
//     commit it says it is, and that commits follow each other without a hole or
//     an overlap. The error names log, partition, collection and document, and
//     ends the reading of that partition there; if the harm is at its end, or in
//     what a writer needs to know, the partition refuses appends with that error.
//     Other partitions go on. Entries walks past all harm;
//   - it needs neither transactions nor change streams. The two unique indexes,
//     on _id and on the keys, are all that writers meet at.
//
// A document is {_id: first sequence, n: number of events, w: the writer's UUID,
// t: recorded time, i: the gist, e: the encoded commit, k: [keys]}. What counts is e;
// n saves reading e to find a head, and i to know which IDs are taken; w and t are
// for people. k is absent without keys. i is the recorded time, in microseconds since
// 1970, and the events' IDs; commits have it that were written while several wrote to
// their partition.
// Keys are written as lower-case hex: MongoDB orders binary values by length
// before content and takes no string that is not UTF-8, while hex strings sort
// as the bytes do everywhere.
//
// The package sets no timeouts; ctx does.
package mongolog

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// maxDocument is what MongoDB takes, less some room for the other fields.
const maxDocument = 16<<20 - 1<<10

// Names of a commit document's fields.
const (
	fieldFirst  = "_id"
	fieldCount  = "n"
	fieldWriter = "w"
	fieldTime   = "t"
	fieldCommit = "e"
	fieldKeys   = "k"
	fieldGist   = "i"
)

// Store is one log in a database. It implements log.Store and is safe for
// concurrent use.
type Store struct {
	db    *mongo.Database
	name  string
	parts []*mongo.Collection
}

var _ log.Store = (*Store)(nil)

// Open returns the log of that name with so many partitions. It does no I/O: the
// log must have been made with Create, which Check verifies.
func Open(db *mongo.Database, name string, partitions int) *Store {
	journal := true
	opts := options.Collection().
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetWriteConcern(&writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journal})
	s := &Store{db: db, name: name, parts: make([]*mongo.Collection, partitions)}
	for i := range s.parts {
		s.parts[i] = db.Collection(CollectionName(name, i), opts)
	}
	return s
}

// CollectionName is the name of the collection that holds a partition, such as
// "activity.p03".
func CollectionName(log string, partition int) string {
	return fmt.Sprintf("%s.p%02d", log, partition)
}

// Name is the log's name.
func (s *Store) Name() string { return s.name }

// Partitions is the number of partitions.
func (s *Store) Partitions() int { return len(s.parts) }

func (s *Store) collection(partition int) (*mongo.Collection, error) {
	if partition < 0 || partition >= len(s.parts) {
		return nil, fmt.Errorf("there is no such partition, the log has %d", len(s.parts))
	}
	return s.parts[partition], nil
}

// Insert implements log.Store. The commit must start right after the last one,
// which is not checked here: a log.Log sees to it.
func (s *Store) Insert(ctx context.Context, c events.Commit, keys []string) error {
	return s.insert(ctx, c, keys, nil)
}

// InsertWithGist implements log.Gister.
func (s *Store) InsertWithGist(ctx context.Context, c events.Commit, keys []string) error {
	return s.insert(ctx, c, keys, gistOf(c))
}

func (s *Store) insert(ctx context.Context, c events.Commit, keys []string, gist []byte) error {
	if err := s.insertDocument(ctx, c, keys, gist); err != nil {
		return fmt.Errorf("insert commit %d into %s/%d: %w", c.First, s.name, c.Partition, err)
	}
	return nil
}

func (s *Store) insertDocument(ctx context.Context, c events.Commit, keys []string, gist []byte) error {
	coll, err := s.collection(c.Partition)
	if err != nil {
		return err
	}
	if c.First == 0 || c.Last() > math.MaxInt64 {
		return fmt.Errorf("sequences %d to %d: want 1 to %d", c.First, c.Last(), int64(math.MaxInt64))
	}
	doc, err := document(c, keys, gist)
	if err != nil {
		return err
	}
	if len(doc) > maxDocument {
		return fmt.Errorf("its document has %d bytes with %d keys, at most %d are allowed", len(doc), len(keys), maxDocument)
	}
	// When the driver itself repeats the insert after a lost connection, which it
	// does on replica sets only, the server knows the repetition for what it is.
	// So a duplicate key always is another commit's, or an earlier call's.
	if _, err = coll.InsertOne(ctx, doc); mongo.IsDuplicateKeyError(err) {
		return log.ErrTaken
	}
	return err
}

func document(c events.Commit, keys []string, gist []byte) (bson.Raw, error) {
	doc := bson.D{
		{Key: fieldFirst, Value: int64(c.First)}, //nolint:gosec // checked by the caller
		{Key: fieldCount, Value: int32(c.Count)}, //nolint:gosec // at most events.MaxCommitEvents
		{Key: fieldWriter, Value: bson.Binary{Subtype: bson.TypeBinaryUUID, Data: c.Writer[:]}},
		{Key: fieldTime, Value: c.RecordedAt.Truncate(time.Millisecond)},
		{Key: fieldCommit, Value: bson.Binary{Data: c.Bytes()}},
	}
	if gist != nil {
		doc = append(doc, bson.E{Key: fieldGist, Value: bson.Binary{Data: gist}})
	}
	if len(keys) > 0 {
		doc = append(doc, bson.E{Key: fieldKeys, Value: encodeKeys(keys)})
	}
	return bson.Marshal(doc)
}

// Head implements log.Store.
func (s *Store) Head(ctx context.Context, partition int) (uint64, error) {
	_, last, err := s.lastUpTo(ctx, partition, math.MaxInt64)
	if err != nil {
		return 0, fmt.Errorf("head of %s/%d: %w", s.name, partition, err)
	}
	return last, nil
}

// lastUpTo returns the first and last sequence of the last commit that starts at
// or before a sequence; zeros if there is none.
func (s *Store) lastUpTo(ctx context.Context, partition int, sequence int64) (first, last uint64, err error) {
	coll, err := s.collection(partition)
	if err != nil {
		return 0, 0, err
	}
	opts := options.FindOne().
		SetSort(bson.D{{Key: fieldFirst, Value: -1}}).
		SetProjection(bson.D{{Key: fieldFirst, Value: 1}, {Key: fieldCount, Value: 1}})
	filter := bson.D{{Key: fieldFirst, Value: bson.D{{Key: "$lte", Value: sequence}}}}
	raw, err := coll.FindOne(ctx, filter, opts).Raw()
	if errors.Is(err, mongo.ErrNoDocuments) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	first, okFirst := sequenceOf(raw.Lookup(fieldFirst))
	n, okN := raw.Lookup(fieldCount).AsInt64OK()
	if !okFirst || !okN || n < 1 || n > events.MaxCommitEvents {
		return 0, 0, fmt.Errorf("%s: %w: it is %s", placeOf(coll, raw.Lookup(fieldFirst)), events.ErrCorrupt, shown(raw))
	}
	return first, first + uint64(n) - 1, nil
}

// Package mongoledger keeps what groups have to remember in a MongoDB database:
// how far they have come, and what is parked.
//
// It promises, beside what subscription.Ledger says:
//   - what was acknowledged is on a majority of the replica set, and reads go to
//     the primary and see what a majority has;
//   - it needs neither transactions nor change streams: each document is written by
//     itself, what writers meet at is _id, and a checkpoint only moves forward
//     whoever writes it;
//   - to save a checkpoint takes one round trip.
//
// The collections, with times as microseconds since 1970:
//
//	checkpoints  {_id: group/log/partition, group, log, partition, sequence, at,
//	             rate, failure}
//	parked       {_id: group/log/partition/sequence, group, log, partition,
//	             sequence, event, type, key, reason, attempts, parked_at, order,
//	             drop: true if that was ordered}
//
// A checkpoint that an earlier build left has its _id and its sequence only, the
// latter under the name of n if it is a read model's. It counts, and is completed
// when it is saved.
package mongoledger

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events/subscription"
)

// Names of the collections.
const (
	checkpointsName = "checkpoints"
	parkedName      = "parked"
)

// Ledger is a subscription.Ledger in a database.
type Ledger struct{ checkpoints, parked *mongo.Collection }

var _ subscription.Ledger = (*Ledger)(nil)

// Open returns the ledger in a database. It does no I/O: the collections must have
// been made with Create, which Check verifies.
func Open(db *mongo.Database) *Ledger {
	opts := options.Collection().
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetWriteConcern(writeconcern.Majority())
	return &Ledger{checkpoints: db.Collection(checkpointsName, opts), parked: db.Collection(parkedName, opts)}
}

// placeID is a place's _id. Those of two places differ, since no name has a slash.
func placeID(at subscription.Place) (string, error) {
	switch {
	case at.Group == "" || strings.Contains(at.Group, "/"):
		return "", fmt.Errorf("group %q: want a name without a slash", at.Group)
	case at.Log == "" || strings.Contains(at.Log, "/"):
		return "", fmt.Errorf("log %q: want a name without a slash", at.Log)
	case at.Partition < 0:
		return "", fmt.Errorf("partition %d: want 0 or more", at.Partition)
	}
	return at.String(), nil
}

// placeOf is the place that an _id names.
func placeOf(id string) (subscription.Place, error) {
	parts := strings.Split(id, "/")
	if len(parts) != 3 {
		return subscription.Place{}, fmt.Errorf("checkpoint %q: want group/log/partition", id)
	}
	partition, err := strconv.Atoi(parts[2])
	if err != nil {
		return subscription.Place{}, fmt.Errorf("checkpoint %q: want group/log/partition: %w", id, err)
	}
	return subscription.Place{Group: parts[0], Log: parts[1], Partition: partition}, nil
}

// stored is a sequence as it is stored.
func stored(sequence uint64) (int64, error) {
	if sequence > math.MaxInt64 {
		return 0, fmt.Errorf("sequence %d: want at most %d", sequence, int64(math.MaxInt64))
	}
	return int64(sequence), nil
}

// errNegative is of a document that nobody here has written.
var errNegative = errors.New("its sequence is below 0")

func sequenceOf(n int64) (uint64, error) {
	if n < 0 {
		return 0, fmt.Errorf("%w: %d", errNegative, n)
	}
	return uint64(n), nil
}

// raced says that two upserts met and this one has lost: the document is there
// now, and to try again finds it. Servers differ in how they say so; code 1 is
// DocumentDB's for a unique index that was run into late.
func raced(err error) bool {
	const internalError = 1
	if mongo.IsDuplicateKeyError(err) {
		return true
	}
	e, ok := errors.AsType[mongo.ServerError](err)
	return ok && e.HasErrorCode(internalError) && strings.Contains(err.Error(), "duplicate key")
}

func field(name string, value any) bson.E { return bson.E{Key: name, Value: value} }

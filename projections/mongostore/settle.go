package mongostore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// maxRounds bounds how often a batch runs into other writers of its documents.
// There is at most one more in a partition, for a moment, and each round that one
// of them loses is one that the other has won.
const maxRounds = 32

// errContended says that others kept changing the documents.
var errContended = errors.New("other writers keep changing the same documents")

// duplicateKey is the server's code for an insert under an _id that is taken.
const duplicateKey = 11000

// settle brings documents to where plan wants them. Each round it reads those
// that are there, by their IDs, and writes what plan makes of them; it ends when
// a round's writes have all met what was read, or plan has none. A write is an
// insert, or an update of a document as it was found, so that one that comes too
// late does nothing.
func settle[D any](ctx context.Context, coll *mongo.Collection, ids []bson.Binary, plan func(found []D) ([]mongo.WriteModel, error)) error {
	for range maxRounds {
		found, err := find[D](ctx, coll, ids)
		if err != nil {
			return err
		}
		writes, err := plan(found)
		if err != nil {
			return err
		}
		if len(writes) == 0 {
			return nil
		}
		met, err := write(ctx, coll, writes)
		if err != nil || met {
			return err
		}
	}
	return fmt.Errorf("write to %s: %w", coll.Name(), errContended)
}

// find reads documents by their IDs.
func find[D any](ctx context.Context, coll *mongo.Collection, ids []bson.Binary) ([]D, error) {
	// One batch, so that no cursor is left to go on with.
	opts := options.Find().SetBatchSize(int32(len(ids) + 1)) //nolint:gosec // a batch of events, twice
	cur, err := coll.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}, opts)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", coll.Name(), err)
	}
	found := make([]D, 0, len(ids))
	if err := cur.All(ctx, &found); err != nil {
		return nil, fmt.Errorf("read %s: %w", coll.Name(), err)
	}
	return found, nil
}

// write sends inserts and updates of one document each, and says whether all of
// them met what they were made for. Those that did have taken effect in any case.
func write(ctx context.Context, coll *mongo.Collection, writes []mongo.WriteModel) (met bool, err error) {
	updates := int64(0)
	for _, w := range writes {
		if _, ok := w.(*mongo.UpdateOneModel); ok {
			updates++
		}
	}
	result, err := coll.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false))
	if err == nil {
		return result.MatchedCount == updates, nil
	}
	if e, ok := errors.AsType[mongo.BulkWriteException](err); ok && e.WriteConcernError == nil && onlyDuplicates(e) {
		return false, nil
	}
	return false, fmt.Errorf("write to %s: %w", coll.Name(), err)
}

func onlyDuplicates(e mongo.BulkWriteException) bool {
	for _, w := range e.WriteErrors {
		if w.Code != duplicateKey {
			return false
		}
	}
	return len(e.WriteErrors) > 0
}

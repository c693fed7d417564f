package mongostore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

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
func settle[D any](ctx context.Context, coll *collection, ids []bson.Binary, plan func(found []D) ([]writing, error)) error {
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

// writing is a write to one document.
type writing struct {
	id    bson.Binary
	model mongo.WriteModel
}

// collection is one of the store's, with its traffic gathered.
type collection struct {
	*mongo.Collection
	finds  gathering[[]bson.Binary, []bson.Raw]
	writes gathering[[]writing, bool]
}

func newCollection(coll *mongo.Collection) *collection {
	c := &collection{Collection: coll}
	c.finds.size, c.finds.do = func(ids []bson.Binary) int { return len(ids) }, c.findAll
	c.writes.size, c.writes.do = func(w []writing) int { return len(w) }, c.writeAll
	return c
}

// find reads documents by their IDs.
func find[D any](ctx context.Context, coll *collection, ids []bson.Binary) ([]D, error) {
	raws, err := coll.finds.call(ctx, ids)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", coll.Name(), err)
	}
	found := make([]D, len(raws))
	for i, raw := range raws {
		if err := bson.Unmarshal(raw, &found[i]); err != nil {
			return nil, fmt.Errorf("read %s: %w", coll.Name(), err)
		}
	}
	return found, nil
}

// findAll makes one query of several.
func (c *collection) findAll(ctx context.Context, all [][]bson.Binary) ([][]bson.Raw, error) {
	ids := slices.Concat(all...)
	// One batch, so that no cursor is left to go on with.
	opts := options.Find().SetBatchSize(int32(len(ids) + 1)) //nolint:gosec // a batch of events, twice
	cur, err := c.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: ids}}}}, opts)
	if err != nil {
		return nil, err
	}
	found := make([]bson.Raw, 0, len(ids))
	if err := cur.All(ctx, &found); err != nil {
		return nil, err
	}
	if len(all) == 1 {
		return [][]bson.Raw{found}, nil
	}
	byID := make(map[string]bson.Raw, len(found))
	for _, raw := range found {
		_, id := raw.Lookup("_id").Binary()
		byID[string(id)] = raw
	}
	shares := make([][]bson.Raw, len(all))
	for i, ids := range all {
		for _, id := range ids {
			if raw, ok := byID[string(id.Data)]; ok {
				shares[i] = append(shares[i], raw)
			}
		}
	}
	return shares, nil
}

// write sends inserts and updates of one document each, and says whether all of
// them met what they were made for. Those that did have taken effect in any case.
func write(ctx context.Context, coll *collection, writes []writing) (met bool, err error) {
	if met, err = coll.writes.call(ctx, writes); err != nil {
		return false, fmt.Errorf("write to %s: %w", coll.Name(), err)
	}
	return met, nil
}

// writeAll makes one bulk write of several, sorted by document: a server that does
// a bulk write in one transaction holds what it has written until the end, and two
// who wrote the same documents in different orders would wait for each other. The
// server counts what met over all of them: if anything did not, each counts as not
// having met, and reads again.
func (c *collection) writeAll(ctx context.Context, all [][]writing) (met []bool, err error) {
	sorted := slices.Concat(all...)
	slices.SortStableFunc(sorted, func(a, b writing) int { return bytes.Compare(a.id.Data, b.id.Data) })
	writes := make([]mongo.WriteModel, len(sorted))
	updates := int64(0)
	for i, w := range sorted {
		writes[i] = w.model
		if _, ok := w.model.(*mongo.UpdateOneModel); ok {
			updates++
		}
	}
	result, err := c.BulkWrite(ctx, writes, options.BulkWrite().SetOrdered(false))
	if e, ok := errors.AsType[mongo.BulkWriteException](err); ok && e.WriteConcernError == nil && onlyDuplicates(e) {
		return make([]bool, len(all)), nil
	}
	if err != nil {
		return nil, err
	}
	met = make([]bool, len(all))
	for i := range met {
		met[i] = result.MatchedCount+result.UpsertedCount == updates
	}
	return met, nil
}

func onlyDuplicates(e mongo.BulkWriteException) bool {
	for _, w := range e.WriteErrors {
		if w.Code != duplicateKey {
			return false
		}
	}
	return len(e.WriteErrors) > 0
}

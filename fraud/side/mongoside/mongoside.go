// Package mongoside keeps the fraud service's side data, labels and checkpoints,
// in a MongoDB database.
//
// A label is a document whose _id is what it says, so that the same label is one
// document however often it is put; checkpoints are one document a partition and
// only move forward. Writes are acknowledged by a majority.
package mongoside

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/labels"
)

const (
	labelCollection      = "labels"
	checkpointCollection = "checkpoints"
	// orderIndex is the index that All reads by.
	orderIndex = "order"
	// namespaceExists is the server's code for a collection that is there.
	namespaceExists = 48
	// bulk is how many labels go in one write.
	bulk = 1000
)

// DB is the service's database.
type DB struct{ labels, checkpoints *mongo.Collection }

var (
	_ labels.Store             = (*DB)(nil)
	_ subscription.Checkpoints = (*DB)(nil)
)

// Open returns the side data of a database. It does no I/O.
func Open(db *mongo.Database) *DB {
	o := options.Collection().SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Majority())
	return &DB{labels: db.Collection(labelCollection, o), checkpoints: db.Collection(checkpointCollection, o)}
}

// order is what labels are sorted by.
var order = bson.D{{Key: "user", Value: 1}, {Key: "at", Value: 1}, {Key: "source", Value: 1}, {Key: "label", Value: 1}}

// Create makes the collections and indexes. It may be repeated.
func Create(ctx context.Context, db *mongo.Database) error {
	for _, name := range []string{labelCollection, checkpointCollection} {
		err := db.CreateCollection(ctx, name)
		if e, ok := errors.AsType[mongo.ServerError](err); err != nil && (!ok || !e.HasErrorCode(namespaceExists)) {
			return fmt.Errorf("create collection %s of the fraud service: %w", name, err)
		}
	}
	index := mongo.IndexModel{Keys: order, Options: options.Index().SetName(orderIndex)}
	if _, err := db.Collection(labelCollection).Indexes().CreateOne(ctx, index); err != nil {
		return fmt.Errorf("create index %s of %s: %w", orderIndex, labelCollection, err)
	}
	return nil
}

// document is a label. Times are microseconds since 1970: a date of MongoDB's has
// milliseconds only. IDs are their lower-case text, which sorts as the bytes do.
type document struct {
	ID     string `bson:"_id"`
	User   string `bson:"user"`
	At     int64  `bson:"at"`
	Source string `bson:"source"`
	Label  string `bson:"label"`
}

// Put implements labels.Store.
func (d *DB) Put(ctx context.Context, list []labels.Label) error {
	if err := labels.ValidateAll(list); err != nil {
		return err
	}
	writes := make([]mongo.WriteModel, len(list))
	for i, l := range list {
		doc := document{User: l.User.String(), At: l.At.UnixMicro(), Source: l.Source, Label: l.Label}
		doc.ID = fmt.Sprintf("%s %d %d %s %s", doc.User, doc.At, len(doc.Source), doc.Source, doc.Label)
		writes[i] = mongo.NewReplaceOneModel().SetFilter(bson.D{{Key: "_id", Value: doc.ID}}).SetReplacement(doc).SetUpsert(true)
	}
	for at := 0; at < len(writes); at += bulk {
		_, err := d.labels.BulkWrite(ctx, writes[at:min(at+bulk, len(writes))], options.BulkWrite().SetOrdered(false))
		if err != nil && !mongo.IsDuplicateKeyError(err) { // a duplicate: another put the same just now
			return fmt.Errorf("put labels: %w", err)
		}
	}
	return nil
}

// All implements labels.Store.
func (d *DB) All(ctx context.Context) iter.Seq2[labels.Label, error] {
	return func(yield func(labels.Label, error) bool) {
		fail := func(err error) { yield(labels.Label{}, fmt.Errorf("read labels: %w", err)) }
		cur, err := d.labels.Find(ctx, bson.D{}, options.Find().SetSort(order))
		if err != nil {
			fail(err)
			return
		}
		defer func() { _ = cur.Close(context.WithoutCancel(ctx)) }() // the server drops what stays open
		for cur.Next(ctx) {
			var doc document
			if err := cur.Decode(&doc); err != nil {
				fail(err)
				return
			}
			user, err := uuid.Parse(doc.User)
			if err != nil {
				fail(fmt.Errorf("label %q: %w", doc.ID, err))
				return
			}
			if !yield(labels.Label{User: user, At: time.UnixMicro(doc.At).UTC(), Source: doc.Source, Label: doc.Label}, nil) {
				return
			}
		}
		if err := cur.Err(); err != nil {
			fail(err)
		}
	}
}

func checkpointID(group, log string, partition int) string {
	return fmt.Sprintf("%s/%s/%d", group, log, partition)
}

// Load implements subscription.Checkpoints.
func (d *DB) Load(ctx context.Context, group, log string, partition int) (uint64, error) {
	var doc struct {
		Sequence int64 `bson:"sequence"`
	}
	err := d.checkpoints.FindOne(ctx, bson.D{{Key: "_id", Value: checkpointID(group, log, partition)}}).Decode(&doc)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("load checkpoint %s of %s/%d: %w", group, log, partition, err)
	case doc.Sequence < 0:
		return 0, fmt.Errorf("load checkpoint %s of %s/%d: it is %d", group, log, partition, doc.Sequence)
	}
	return uint64(doc.Sequence), nil
}

// Save implements subscription.Checkpoints.
func (d *DB) Save(ctx context.Context, group, log string, partition int, sequence uint64) error {
	if sequence > math.MaxInt64 {
		return fmt.Errorf("save checkpoint %s of %s/%d: %d is beyond every sequence", group, log, partition, sequence)
	}
	// One that stands further on is not met by the filter; the upsert then runs
	// into its _id, and all is well.
	ahead := bson.D{{Key: "$gte", Value: int64(sequence)}}
	filter := bson.D{
		{Key: "_id", Value: checkpointID(group, log, partition)},
		{Key: "sequence", Value: bson.D{{Key: "$not", Value: ahead}}},
	}
	set := bson.D{{Key: "$set", Value: bson.D{{Key: "sequence", Value: int64(sequence)}}}}
	_, err := d.checkpoints.UpdateOne(ctx, filter, set, options.UpdateOne().SetUpsert(true))
	if mongo.IsDuplicateKeyError(err) {
		// Or another has just made it, from further back.
		_, err = d.checkpoints.UpdateOne(ctx, filter, set)
	}
	if err != nil {
		return fmt.Errorf("save checkpoint %s of %s/%d: %w", group, log, partition, err)
	}
	return nil
}

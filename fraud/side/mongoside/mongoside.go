// Package mongoside keeps the fraud service's labels in a MongoDB database.
//
// A label is a document whose _id is what it says, so that the same label is one
// document however often it is put. Writes are acknowledged by a majority.
package mongoside

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/fraud/labels"
)

const (
	labelCollection = "labels"
	// orderIndex is the index that All reads by.
	orderIndex = "order"
	// namespaceExists is the server's code for a collection that is there.
	namespaceExists = 48
	// bulk is how many labels go in one write.
	bulk = 1000
)

// DB is the service's database.
type DB struct{ labels *mongo.Collection }

var _ labels.Store = (*DB)(nil)

// Open returns the labels of a database. It does no I/O.
func Open(db *mongo.Database) *DB {
	o := options.Collection().SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Majority())
	return &DB{labels: db.Collection(labelCollection, o)}
}

// order is what labels are sorted by.
var order = bson.D{{Key: "user", Value: 1}, {Key: "at", Value: 1}, {Key: "source", Value: 1}, {Key: "label", Value: 1}}

// Create makes the collection and its index. It may be repeated.
func Create(ctx context.Context, db *mongo.Database) error {
	err := db.CreateCollection(ctx, labelCollection)
	if e, ok := errors.AsType[mongo.ServerError](err); err != nil && (!ok || !e.HasErrorCode(namespaceExists)) {
		return fmt.Errorf("create collection %s of the fraud service: %w", labelCollection, err)
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

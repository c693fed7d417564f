package mongolog

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"
)

const (
	// logsCollection holds what a log was made with, one document per log.
	logsCollection = "logs"
	// keysIndex is the index that lets a key be held once. It has only the commits
	// that hold some: to leave the others out of a sparse index, which is what
	// sparseIndex was, costs a server almost what putting them in would.
	keysIndex   = "held"
	sparseIndex = "keys"
	// format is the version of the layout that this build reads and writes.
	format = 1
	// maxPartitions is what a commit's encoding has room for.
	maxPartitions = 1 << 16
	// The server's codes for a collection that is there, and an index that is not.
	namespaceExists = 48
	indexNotFound   = 27
)

// ErrNotReady says that the database lacks what Create makes.
var ErrNotReady = errors.New("the database is not ready for this log, run `meet5 migrate up`")

// meta is a document of the logs collection.
type meta struct {
	Name       string `bson:"_id"`
	Partitions int    `bson:"partitions"`
	Format     int    `bson:"format"`
}

// withKeys is what a commit that holds keys meets. A query for keys says it too, or
// the server may not see that the index serves it.
var withKeys = bson.E{Key: "$exists", Value: true}

// Create makes the log's collections and indexes, and replaces an index that an
// earlier build made. What is there already stays as it is, so that Create may be
// repeated, but not at once with another: servers differ in what they make of that,
// and the migrations' lock prevents it. It fails if the log was made with another
// number of partitions.
func Create(ctx context.Context, db *mongo.Database, name string, partitions int) error {
	if err := create(ctx, db, name, partitions); err != nil {
		return fmt.Errorf("create log %s: %w", name, err)
	}
	return nil
}

func create(ctx context.Context, db *mongo.Database, name string, partitions int) error {
	if partitions < 1 || partitions > maxPartitions {
		return fmt.Errorf("%d partitions: want 1 to %d", partitions, maxPartitions)
	}
	// The number comes first: of two that create the log differently, one fails
	// before it has made a collection.
	logs := db.Collection(logsCollection, options.Collection().
		SetWriteConcern(writeconcern.Majority()).SetReadConcern(readconcern.Majority()))
	_, err := logs.InsertOne(ctx, meta{Name: name, Partitions: partitions, Format: format})
	if err != nil && !mongo.IsDuplicateKeyError(err) {
		return fmt.Errorf("record its partitions: %w", err)
	}
	s := Open(db, name, partitions)
	if err := s.checkMeta(ctx); err != nil {
		return err
	}
	for _, coll := range s.parts {
		err := db.CreateCollection(ctx, coll.Name())
		if err != nil && !hasCode(err, namespaceExists) {
			return fmt.Errorf("create collection %s: %w", coll.Name(), err)
		}
		held := options.Index().SetName(keysIndex).SetUnique(true).
			SetPartialFilterExpression(bson.D{{Key: fieldKeys, Value: bson.D{withKeys}}})
		_, err = coll.Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: fieldKeys, Value: 1}}, Options: held})
		if err != nil {
			return fmt.Errorf("create index %s of %s: %w", keysIndex, coll.Name(), err)
		}
		if err := coll.Indexes().DropOne(ctx, sparseIndex); err != nil && !hasCode(err, indexNotFound) {
			return fmt.Errorf("drop index %s of %s: %w", sparseIndex, coll.Name(), err)
		}
	}
	return nil
}

func hasCode(err error, code int) bool {
	e, ok := errors.AsType[mongo.ServerError](err)
	return ok && e.HasErrorCode(code)
}

// Check verifies that the log was made, with this number of partitions, and that
// the indexes which its promises rest on are there. The error is ErrNotReady if
// Create mends it. A service calls it before it serves.
func (s *Store) Check(ctx context.Context) error {
	err := s.checkMeta(ctx)
	for i := 0; err == nil && i < len(s.parts); i++ {
		err = checkIndex(ctx, s.parts[i])
	}
	if err != nil {
		return fmt.Errorf("check log %s: %w", s.name, err)
	}
	return nil
}

func (s *Store) checkMeta(ctx context.Context) error {
	var m meta
	logs := s.db.Collection(logsCollection, options.Collection().SetReadConcern(readconcern.Majority()))
	err := logs.FindOne(ctx, bson.D{{Key: "_id", Value: s.name}}).Decode(&m)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments):
		return fmt.Errorf("it was never created: %w", ErrNotReady)
	case err != nil:
		return fmt.Errorf("read its partitions: %w", err)
	case m.Format != format:
		return fmt.Errorf("it has format %d, this build knows %d: run the build that made it, or one that converts it", m.Format, format)
	case m.Partitions != len(s.parts):
		return fmt.Errorf("it was made with %d partitions, not %d: the number is fixed, replay it into a new log to change it", m.Partitions, len(s.parts))
	}
	return nil
}

func checkIndex(ctx context.Context, coll *mongo.Collection) error {
	var indexes []struct {
		Key    bson.D `bson:"key"`
		Unique bool   `bson:"unique"`
		Filter bson.D `bson:"partialFilterExpression"`
	}
	cur, err := coll.Indexes().List(ctx)
	if err == nil {
		err = cur.All(ctx, &indexes)
	}
	if err != nil {
		return fmt.Errorf("list indexes of %s: %w", coll.Name(), err)
	}
	for _, i := range indexes {
		if i.Unique && len(i.Key) == 1 && i.Key[0].Key == fieldKeys &&
			len(i.Filter) == 1 && i.Filter[0].Key == fieldKeys && fmt.Sprint(i.Filter[0].Value) == fmt.Sprint(bson.D{withKeys}) {
			return nil
		}
	}
	return fmt.Errorf("%s has no unique index on %q: %w", coll.Name(), fieldKeys, ErrNotReady)
}

package mongostore

import (
	"context"
	"errors"
	"fmt"

	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ErrNotReady says that the database lacks what Create makes.
var ErrNotReady = errors.New("the database is not ready for the read models, run `meet5 migrate up`")

// namespaceExists is the server's code for a collection that is there.
const namespaceExists = 48

// index is a list's order, or the way to find what has to be marked.
type index struct {
	collection, name string
	keys             bson.D
}

// indexes are all that queries go by. The lists of an actor's own doings are also
// what is searched for the pairs of an actor who is hidden.
var indexes = []index{
	{likesName, "given", bson.D{{Key: "a", Value: 1}, {Key: "at", Value: -1}, {Key: "t", Value: -1}}},
	{likesName, "received", bson.D{{Key: "t", Value: 1}, {Key: "h", Value: 1}, {Key: "at", Value: -1}, {Key: "a", Value: -1}}},
	{matchesName, "higher", bson.D{{Key: "hi.u", Value: 1}, {Key: "lo.h", Value: 1}, {Key: "at", Value: -1}, {Key: "_id", Value: -1}}},
	{matchesName, "lower", bson.D{{Key: "lo.u", Value: 1}, {Key: "hi.h", Value: 1}, {Key: "at", Value: -1}, {Key: "_id", Value: -1}}},
	{visitsName, "visitors", bson.D{{Key: "t", Value: 1}, {Key: "h", Value: 1}, {Key: "l", Value: -1}, {Key: "a", Value: -1}}},
	{visitsName, "visits", bson.D{{Key: "a", Value: 1}, {Key: "l", Value: -1}, {Key: "t", Value: -1}}},
}

// Create makes the first version's collections and indexes. What is there already
// stays as it is, so that Create may be repeated.
func Create(ctx context.Context, db *mongo.Database) error {
	return CreateVersion(ctx, db, FirstVersion)
}

// CreateVersion does the same for a version.
func CreateVersion(ctx context.Context, db *mongo.Database, version int) error {
	for _, name := range []string{visitsName, likesName, matchesName, hiddenName} {
		name = nameIn(version, name)
		err := db.CreateCollection(ctx, name)
		if e, ok := errors.AsType[mongo.ServerError](err); err != nil && (!ok || !e.HasErrorCode(namespaceExists)) {
			return fmt.Errorf("create collection %s: %w", name, err)
		}
	}
	for _, i := range indexes {
		model := mongo.IndexModel{Keys: i.keys, Options: options.Index().SetName(i.name)}
		name := nameIn(version, i.collection)
		if _, err := db.Collection(name).Indexes().CreateOne(ctx, model); err != nil {
			return fmt.Errorf("create index %s of %s: %w", i.name, name, err)
		}
	}
	return nil
}

// DropVersion drops a version's collections. Those that are gone stay gone, so that
// DropVersion may be repeated.
func DropVersion(ctx context.Context, db *mongo.Database, version int) error {
	for _, name := range []string{visitsName, likesName, matchesName, hiddenName} {
		name = nameIn(version, name)
		if err := db.Collection(name).Drop(ctx); err != nil {
			return fmt.Errorf("drop collection %s: %w", name, err)
		}
	}
	return nil
}

// Size is about how many documents the version has.
func (s *Store) Size(ctx context.Context) (documents int64, err error) {
	for _, coll := range []*collection{s.visits, s.likes, s.matches, s.hidden} {
		n, err := coll.EstimatedDocumentCount(ctx)
		if err != nil {
			return 0, fmt.Errorf("count %s: %w", coll.Name(), err)
		}
		documents += n
	}
	return documents, nil
}

// Check verifies that the indexes are there. The error is ErrNotReady if Create
// mends it. A service calls it before it serves.
func (s *Store) Check(ctx context.Context) error {
	for _, coll := range []*collection{s.visits, s.likes, s.matches} {
		specs, err := coll.Indexes().ListSpecifications(ctx)
		if err != nil {
			return fmt.Errorf("list indexes of %s: %w", coll.Name(), err)
		}
		there := make(map[string]bool, len(specs))
		for _, spec := range specs {
			there[spec.Name] = true
		}
		for _, i := range indexes {
			if nameIn(s.version, i.collection) == coll.Name() && !there[i.name] {
				return fmt.Errorf("%s has no index %q: %w", coll.Name(), i.name, ErrNotReady)
			}
		}
	}
	return nil
}

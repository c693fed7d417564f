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

// Create makes the collections and indexes. What is there already stays as it is,
// so that Create may be repeated.
func Create(ctx context.Context, db *mongo.Database) error {
	for _, name := range []string{visitsName, likesName, matchesName, hiddenName, checkpointsName} {
		err := db.CreateCollection(ctx, name)
		if e, ok := errors.AsType[mongo.ServerError](err); err != nil && (!ok || !e.HasErrorCode(namespaceExists)) {
			return fmt.Errorf("create collection %s: %w", name, err)
		}
	}
	for _, i := range indexes {
		model := mongo.IndexModel{Keys: i.keys, Options: options.Index().SetName(i.name)}
		if _, err := db.Collection(i.collection).Indexes().CreateOne(ctx, model); err != nil {
			return fmt.Errorf("create index %s of %s: %w", i.name, i.collection, err)
		}
	}
	return nil
}

// Check verifies that the indexes are there. The error is ErrNotReady if Create
// mends it. A service calls it before it serves.
func (s *Store) Check(ctx context.Context) error {
	for _, coll := range []*mongo.Collection{s.visits, s.likes, s.matches} {
		specs, err := coll.Indexes().ListSpecifications(ctx)
		if err != nil {
			return fmt.Errorf("list indexes of %s: %w", coll.Name(), err)
		}
		there := make(map[string]bool, len(specs))
		for _, spec := range specs {
			there[spec.Name] = true
		}
		for _, i := range indexes {
			if i.collection == coll.Name() && !there[i.name] {
				return fmt.Errorf("%s has no index %q: %w", i.collection, i.name, ErrNotReady)
			}
		}
	}
	return nil
}

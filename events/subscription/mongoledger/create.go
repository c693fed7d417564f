package mongoledger

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
)

// ErrNotReady says that the database lacks what Create makes.
var ErrNotReady = errors.New("the database is not ready for a ledger, run `meet5 migrate up`")

const (
	// placeIndex is the index by which what is parked is read.
	placeIndex = "place"
	// namespaceExists is the server's code for a collection that is there.
	namespaceExists = 48
)

// Create makes the collections and the index. What is there already stays as it
// is, so that Create may be repeated.
func Create(ctx context.Context, db *mongo.Database) error {
	for _, name := range []string{checkpointsName, parkedName} {
		err := db.CreateCollection(ctx, name)
		if e, ok := errors.AsType[mongo.ServerError](err); err != nil && (!ok || !e.HasErrorCode(namespaceExists)) {
			return fmt.Errorf("create collection %s: %w", name, err)
		}
	}
	model := mongo.IndexModel{Keys: byPlace, Options: options.Index().SetName(placeIndex)}
	if _, err := db.Collection(parkedName).Indexes().CreateOne(ctx, model); err != nil {
		return fmt.Errorf("create index %s of %s: %w", placeIndex, parkedName, err)
	}
	return nil
}

// Check verifies that the index is there. The error is ErrNotReady if Create mends
// it. A service calls it before it serves.
func (l *Ledger) Check(ctx context.Context) error {
	specs, err := l.parked.Indexes().ListSpecifications(ctx)
	if err != nil {
		return fmt.Errorf("list indexes of %s: %w", parkedName, err)
	}
	if !slices.ContainsFunc(specs, func(i mongo.IndexSpecification) bool { return i.Name == placeIndex }) {
		return fmt.Errorf("%s has no index %q: %w", parkedName, placeIndex, ErrNotReady)
	}
	return nil
}

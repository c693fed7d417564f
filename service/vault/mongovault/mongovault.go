// Package mongovault is the vault of the distributed way to run: a MongoDB
// database of the service's own, shared by its instances.
//
// Beside what package vault promises:
//   - a change is acknowledged by a majority before the caller hears of it, and
//     reads go to the primary and see what a majority has;
//   - it needs neither transactions nor change streams: whatever must be atomic
//     is one document;
//   - every fault of the driver is a vault.ErrUnavailable, but for those of the
//     ledger, which asks for no more than to be tried again.
//
// What the server keeps of deleted documents in its journal and its backups is
// out of reach here: bound how long those are kept, and encrypt the disks.
//
// The package sets no timeouts; ctx does.
package mongovault

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"
	"go.mongodb.org/mongo-driver/v2/mongo/readconcern"
	"go.mongodb.org/mongo-driver/v2/mongo/readpref"
	"go.mongodb.org/mongo-driver/v2/mongo/writeconcern"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/service/vault"
)

// Names of the collections. What is in each is told beside the code that writes
// it. Those of the ledger are beside them.
const (
	keptCollection     = "kept"
	usersCollection    = "users"
	sessionsCollection = "sessions"
)

// Vault is a database. It implements vault.Vault.
type Vault struct {
	kept, users, sessions *mongo.Collection
	ledger                *mongoledger.Ledger
}

var _ vault.Vault = (*Vault)(nil)

// Open returns the vault in a database. It does no I/O: what it needs there must
// have been made with Create.
func Open(db *mongo.Database) *Vault {
	journal := true
	opts := options.Collection().
		SetReadConcern(readconcern.Majority()).
		SetReadPreference(readpref.Primary()).
		SetWriteConcern(&writeconcern.WriteConcern{W: writeconcern.WCMajority, Journal: &journal})
	return &Vault{
		kept:     db.Collection(keptCollection, opts),
		users:    db.Collection(usersCollection, opts),
		sessions: db.Collection(sessionsCollection, opts),
		ledger:   mongoledger.Open(db),
	}
}

// Ledger implements vault.Vault.
func (v *Vault) Ledger() subscription.Ledger { return v.ledger }

// Create makes the vault's collections and indexes. What is there already stays
// as it is, so that Create may be repeated.
func Create(ctx context.Context, db *mongo.Database) error {
	const namespaceExists = 48 // the server's code for a collection that is there
	for _, name := range []string{keptCollection, sessionsCollection, usersCollection} {
		err := db.CreateCollection(ctx, name)
		if e, ok := errors.AsType[mongo.ServerError](err); err != nil && (!ok || !e.HasErrorCode(namespaceExists)) {
			return fmt.Errorf("create collection %s of the vault: %w", name, err)
		}
	}
	_, err := db.Collection(sessionsCollection).Indexes().CreateMany(ctx, []mongo.IndexModel{
		{Keys: bson.D{{Key: fieldUser, Value: 1}, {Key: fieldStarted, Value: 1}}, Options: options.Index().SetName("user")},
		{Keys: bson.D{{Key: fieldExpires, Value: 1}}, Options: options.Index().SetName("expires")},
	})
	if err != nil {
		return fmt.Errorf("create the indexes of the vault's sessions: %w", err)
	}
	about := options.Index().SetName("about").SetPartialFilterExpression(bson.D{{Key: fieldAbout, Value: bson.D{{Key: "$exists", Value: true}}}})
	if _, err := db.Collection(usersCollection).Indexes().CreateOne(ctx, mongo.IndexModel{Keys: bson.D{{Key: fieldAbout, Value: 1}}, Options: about}); err != nil {
		return fmt.Errorf("create the index of the vault's shared keys: %w", err)
	}
	if err := mongoledger.Create(ctx, db); err != nil {
		return fmt.Errorf("create the vault's ledger: %w", err)
	}
	return nil
}

// fault wraps an error that is not one of package vault's.
func fault(what string, err error) error {
	return fmt.Errorf("vault: %s: %w: %w", what, vault.ErrUnavailable, err)
}

func uuidValue(id uuid.UUID) bson.Binary {
	return bson.Binary{Subtype: bson.TypeBinaryUUID, Data: append([]byte(nil), id[:]...)}
}

func bytesValue(b []byte) bson.Binary { return bson.Binary{Data: b} }

func byID(id uuid.UUID) bson.D { return bson.D{{Key: "_id", Value: uuidValue(id)}} }

// keptDocument is name → value.
type keptDocument struct {
	Name  string      `bson:"_id"`
	Value bson.Binary `bson:"value"`
}

// Keep implements vault.Vault.
func (v *Vault) Keep(ctx context.Context, name string, value []byte) ([]byte, error) {
	_, err := v.kept.InsertOne(ctx, keptDocument{name, bytesValue(value)})
	if err == nil {
		return append([]byte(nil), value...), nil
	}
	if !mongo.IsDuplicateKeyError(err) {
		return nil, fault("keep "+name, err)
	}
	var there keptDocument
	if err := v.kept.FindOne(ctx, bson.D{{Key: "_id", Value: name}}).Decode(&there); err != nil {
		return nil, fault("read "+name, err)
	}
	return there.Value.Data, nil
}

// Kept implements vault.Vault.
func (v *Vault) Kept(ctx context.Context, prefix string) (map[string][]byte, error) {
	// Names are ASCII, so that none which begins with prefix comes after this one.
	last := prefix + "\x7f"
	cursor, err := v.kept.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$gte", Value: prefix}, {Key: "$lt", Value: last}}}})
	if err != nil {
		return nil, fault("read what is kept", err)
	}
	var docs []keptDocument
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, fault("read what is kept", err)
	}
	kept := make(map[string][]byte, len(docs))
	for _, d := range docs {
		kept[d.Name] = d.Value.Data
	}
	return kept, nil
}

// Forget implements vault.Vault.
func (v *Vault) Forget(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	if _, err := v.kept.DeleteMany(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: names}}}}); err != nil {
		return fault("forget what was kept", err)
	}
	return nil
}

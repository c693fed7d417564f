package mongovault

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/service/vault"
)

// A document of the users collection is {_id: user, key, hash}; hash is absent
// without a password, and an erased user's is {_id: user, erased: true}. A shared key
// is a document of its own, {_id: its ID, key, about: users}, and then as an erased
// user's.
const (
	fieldKey    = "key"
	fieldHash   = "hash"
	fieldErased = "erased"
	fieldAbout  = "about"
)

type userDocument struct {
	ID    bson.Binary   `bson:"_id"`
	Key   bson.Binary   `bson:"key"`
	Hash  string        `bson:"hash,omitempty"`
	About []bson.Binary `bson:"about,omitempty"`
}

// Enrol implements vault.Vault.
func (v *Vault) Enrol(ctx context.Context, user uuid.UUID, key vault.Key, passwordHash string) error {
	_, err := v.users.InsertOne(ctx, userDocument{ID: uuidValue(user), Key: bytesValue(key[:]), Hash: passwordHash})
	switch {
	case mongo.IsDuplicateKeyError(err):
		return fmt.Errorf("vault: enrol a user: %w", vault.ErrExists)
	case err != nil:
		return fault("enrol a user", err)
	}
	return nil
}

// KeepKeys implements vault.Vault.
func (v *Vault) KeepKeys(ctx context.Context, keys map[uuid.UUID]vault.Key) (map[uuid.UUID]vault.Key, error) {
	if len(keys) == 0 {
		return map[uuid.UUID]vault.Key{}, nil
	}
	if len(keys) > vault.MaxKeys {
		return nil, fmt.Errorf("vault: keep keys: %d users, at most %d are allowed", len(keys), vault.MaxKeys)
	}
	docs := make([]userDocument, 0, len(keys))
	ids := make([]uuid.UUID, 0, len(keys))
	for id, key := range keys {
		docs = append(docs, userDocument{ID: uuidValue(id), Key: bytesValue(append([]byte(nil), key[:]...))})
		ids = append(ids, id)
	}
	_, err := v.users.InsertMany(ctx, docs, options.InsertMany().SetOrdered(false))
	if err != nil && !onlyDuplicates(err) {
		return nil, fault("keep keys", err)
	}
	return v.Keys(ctx, ids...)
}

// onlyDuplicates says that what was not inserted was there already. mongo's own
// check is content with one duplicate among other faults.
func onlyDuplicates(err error) bool {
	bulk, ok := errors.AsType[mongo.BulkWriteException](err)
	if !ok || bulk.WriteConcernError != nil {
		return false
	}
	for _, e := range bulk.WriteErrors {
		if !mongo.IsDuplicateKeyError(e.WriteError) {
			return false
		}
	}
	return true
}

// Keys implements vault.Vault.
func (v *Vault) Keys(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]vault.Key, error) {
	keys := make(map[uuid.UUID]vault.Key, len(ids))
	if len(ids) == 0 {
		return keys, nil
	}
	if len(ids) > vault.MaxKeys {
		return nil, fmt.Errorf("vault: read keys: %d users, at most %d are allowed", len(ids), vault.MaxKeys)
	}
	cursor, err := v.users.Find(ctx, bson.D{{Key: "_id", Value: anyOf(ids)}},
		options.Find().SetProjection(bson.D{{Key: fieldKey, Value: 1}}))
	if err != nil {
		return nil, fault("read keys", err)
	}
	var docs []userDocument
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, fault("read keys", err)
	}
	for _, d := range docs {
		if len(d.ID.Data) == 16 && len(d.Key.Data) == len(vault.Key{}) {
			keys[uuid.UUID(d.ID.Data)] = vault.Key(d.Key.Data)
		}
	}
	return keys, nil
}

func anyOf(ids []uuid.UUID) bson.D { return bson.D{{Key: "$in", Value: uuidValues(ids)}} }

func uuidValues(ids []uuid.UUID) []bson.Binary {
	values := make([]bson.Binary, len(ids))
	for i, id := range ids {
		values[i] = uuidValue(id)
	}
	return values
}

// KeepShared implements vault.Vault. The key comes first and the look at who is erased
// second, Erase goes the other way round: whichever is later meets the other.
func (v *Vault) KeepShared(ctx context.Context, id uuid.UUID, key vault.Key, users []uuid.UUID) error {
	if len(users) > vault.MaxKeys {
		return fmt.Errorf("vault: keep a shared key: %d users, at most %d are allowed", len(users), vault.MaxKeys)
	}
	_, err := v.users.InsertOne(ctx, userDocument{ID: uuidValue(id), Key: bytesValue(key[:]), About: uuidValues(users)})
	switch {
	case mongo.IsDuplicateKeyError(err):
		return fmt.Errorf("vault: keep a shared key: %w", vault.ErrExists)
	case err != nil:
		return fault("keep a shared key", err)
	}
	erased, err := v.Erased(ctx, users...)
	if err != nil {
		return err
	}
	if len(erased) == 0 {
		return nil
	}
	if _, err := v.users.UpdateOne(ctx, byID(id), forgetKey); err != nil {
		return fault("give up a shared key", err)
	}
	return fmt.Errorf("vault: keep a shared key: %w", vault.ErrErased)
}

// Erased implements vault.Vault.
func (v *Vault) Erased(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]bool, error) {
	erased := make(map[uuid.UUID]bool)
	if len(ids) == 0 {
		return erased, nil
	}
	if len(ids) > vault.MaxKeys {
		return nil, fmt.Errorf("vault: ask who is erased: %d users, at most %d are allowed", len(ids), vault.MaxKeys)
	}
	cursor, err := v.users.Find(ctx, bson.D{{Key: "_id", Value: anyOf(ids)}, {Key: fieldErased, Value: true}},
		options.Find().SetProjection(bson.D{{Key: "_id", Value: 1}}))
	if err != nil {
		return nil, fault("ask who is erased", err)
	}
	var docs []userDocument
	if err := cursor.All(ctx, &docs); err != nil {
		return nil, fault("ask who is erased", err)
	}
	for _, d := range docs {
		if len(d.ID.Data) == len(uuid.UUID{}) {
			erased[uuid.UUID(d.ID.Data)] = true
		}
	}
	return erased, nil
}

// PasswordHash implements vault.Vault.
func (v *Vault) PasswordHash(ctx context.Context, user uuid.UUID) (string, error) {
	var d userDocument
	err := v.users.FindOne(ctx, byID(user), options.FindOne().SetProjection(bson.D{{Key: fieldHash, Value: 1}})).Decode(&d)
	switch {
	case errors.Is(err, mongo.ErrNoDocuments), err == nil && d.Hash == "":
		return "", fmt.Errorf("vault: read a password hash: %w", vault.ErrNotFound)
	case err != nil:
		return "", fault("read a password hash", err)
	}
	return d.Hash, nil
}

// ChangePassword implements vault.Vault.
func (v *Vault) ChangePassword(ctx context.Context, user uuid.UUID, from, to string) error {
	if from == "" {
		return fmt.Errorf("vault: change a password: %w", vault.ErrNotFound)
	}
	done, err := v.users.UpdateOne(ctx, append(byID(user), bson.E{Key: fieldHash, Value: from}),
		bson.D{{Key: "$set", Value: bson.D{{Key: fieldHash, Value: to}}}})
	if err != nil {
		return fault("change a password", err)
	}
	if done.MatchedCount == 0 {
		return fmt.Errorf("vault: change a password: %w", vault.ErrNotFound)
	}
	return nil
}

// forgetKey leaves of a document that there was one.
var forgetKey = bson.D{
	{Key: "$set", Value: bson.D{{Key: fieldErased, Value: true}}},
	{Key: "$unset", Value: bson.D{{Key: fieldKey, Value: ""}, {Key: fieldHash, Value: ""}, {Key: fieldAbout, Value: ""}}},
}

// Erase implements vault.Vault. If it fails between its steps, the key is gone, and
// repeating it does the rest.
func (v *Vault) Erase(ctx context.Context, user uuid.UUID) error {
	// Made beforehand, since servers differ in the error of an upsert that
	// another one won.
	_, err := v.users.InsertOne(ctx, bson.D{{Key: "_id", Value: uuidValue(user)}, {Key: fieldErased, Value: true}})
	if mongo.IsDuplicateKeyError(err) {
		_, err = v.users.UpdateOne(ctx, byID(user), forgetKey)
	}
	if err != nil {
		return fault("erase a user", err)
	}
	// That the field is there is said for the index, which has those alone that have it.
	shared := bson.D{{Key: fieldAbout, Value: bson.D{{Key: "$eq", Value: uuidValue(user)}, {Key: "$exists", Value: true}}}}
	if _, err := v.users.UpdateMany(ctx, shared, forgetKey); err != nil {
		return fault("erase the keys that a user shares", err)
	}
	if _, err := v.sessions.DeleteMany(ctx, bson.D{{Key: fieldUser, Value: uuidValue(user)}}); err != nil {
		return fault("end the sessions of an erased user", err)
	}
	return nil
}

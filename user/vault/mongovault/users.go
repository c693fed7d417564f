package mongovault

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
	"go.mongodb.org/mongo-driver/v2/mongo/options"

	"github.com/meet5/backend/user/vault"
)

// A document of the users collection is {_id: user, key, hash}; hash is absent
// without a password, and an erased user's is {_id: user, erased: true}.
const (
	fieldKey    = "key"
	fieldHash   = "hash"
	fieldErased = "erased"
)

type userDocument struct {
	ID   bson.Binary `bson:"_id"`
	Key  bson.Binary `bson:"key"`
	Hash string      `bson:"hash,omitempty"`
}

// Enrol implements vault.Vault.
func (v *Vault) Enrol(ctx context.Context, user uuid.UUID, key vault.Key, passwordHash string) error {
	_, err := v.users.InsertOne(ctx, userDocument{uuidValue(user), bytesValue(key[:]), passwordHash})
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
	wanted := make(bson.A, len(ids))
	for i, id := range ids {
		wanted[i] = uuidValue(id)
	}
	cursor, err := v.users.Find(ctx, bson.D{{Key: "_id", Value: bson.D{{Key: "$in", Value: wanted}}}},
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

// Erase implements vault.Vault. If it fails between its two steps, the key is
// gone, and repeating it ends the sessions.
func (v *Vault) Erase(ctx context.Context, user uuid.UUID) error {
	// Made beforehand, since servers differ in the error of an upsert that
	// another one won.
	_, err := v.users.InsertOne(ctx, bson.D{{Key: "_id", Value: uuidValue(user)}, {Key: fieldErased, Value: true}})
	if mongo.IsDuplicateKeyError(err) {
		_, err = v.users.UpdateOne(ctx, byID(user), bson.D{
			{Key: "$set", Value: bson.D{{Key: fieldErased, Value: true}}},
			{Key: "$unset", Value: bson.D{{Key: fieldKey, Value: ""}, {Key: fieldHash, Value: ""}}},
		})
	}
	if err != nil {
		return fault("erase a user", err)
	}
	if _, err := v.sessions.DeleteMany(ctx, bson.D{{Key: fieldUser, Value: uuidValue(user)}}); err != nil {
		return fault("end the sessions of an erased user", err)
	}
	return nil
}

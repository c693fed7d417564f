package boltvault

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/user/vault"
)

// The users bucket is user → key and password hash, one after the other, or a
// single zero for an erased user.
const keySize = len(vault.Key{})

// Enrol implements vault.Vault.
func (v *Vault) Enrol(ctx context.Context, user uuid.UUID, key vault.Key, passwordHash string) error {
	return v.update(ctx, "enrol a user", func(tx *bolt.Tx) error {
		users := bucket(tx, usersBucket)
		if users.Get(user[:]) != nil {
			return vault.ErrExists
		}
		return users.Put(user[:], append(key[:], passwordHash...))
	})
}

// KeepKeys implements vault.Vault.
func (v *Vault) KeepKeys(ctx context.Context, keys map[uuid.UUID]vault.Key) (map[uuid.UUID]vault.Key, error) {
	if len(keys) > vault.MaxKeys {
		return nil, fmt.Errorf("vault: keep keys: %d users, at most %d are allowed", len(keys), vault.MaxKeys)
	}
	kept := make(map[uuid.UUID]vault.Key, len(keys))
	err := v.update(ctx, "keep keys", func(tx *bolt.Tx) error {
		users := bucket(tx, usersBucket)
		for id, key := range keys {
			there := users.Get(id[:])
			if there == nil {
				if err := users.Put(id[:], append([]byte(nil), key[:]...)); err != nil {
					return err
				}
				kept[id] = key
			} else if len(there) >= keySize {
				kept[id] = vault.Key(there[:keySize])
			}
		}
		return nil
	})
	return kept, err
}

// Keys implements vault.Vault.
func (v *Vault) Keys(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]vault.Key, error) {
	if len(ids) > vault.MaxKeys {
		return nil, fmt.Errorf("vault: read keys: %d users, at most %d are allowed", len(ids), vault.MaxKeys)
	}
	keys := make(map[uuid.UUID]vault.Key, len(ids))
	err := v.view(ctx, "read keys", func(tx *bolt.Tx) error {
		users := bucket(tx, usersBucket)
		for _, id := range ids {
			if there := users.Get(id[:]); len(there) >= keySize {
				keys[id] = vault.Key(there[:keySize])
			}
		}
		return nil
	})
	return keys, err
}

// PasswordHash implements vault.Vault.
func (v *Vault) PasswordHash(ctx context.Context, user uuid.UUID) (hash string, err error) {
	err = v.view(ctx, "read a password hash", func(tx *bolt.Tx) error {
		there := bucket(tx, usersBucket).Get(user[:])
		if len(there) <= keySize {
			return vault.ErrNotFound
		}
		hash = string(there[keySize:])
		return nil
	})
	return hash, err
}

// ChangePassword implements vault.Vault.
func (v *Vault) ChangePassword(ctx context.Context, user uuid.UUID, from, to string) error {
	return v.update(ctx, "change a password", func(tx *bolt.Tx) error {
		users := bucket(tx, usersBucket)
		there := users.Get(user[:])
		if len(there) <= keySize || string(there[keySize:]) != from {
			return vault.ErrNotFound
		}
		return users.Put(user[:], append(bytes.Clone(there[:keySize]), to...))
	})
}

// Erase implements vault.Vault.
func (v *Vault) Erase(ctx context.Context, user uuid.UUID) error {
	return v.update(ctx, "erase a user", func(tx *bolt.Tx) error {
		users := bucket(tx, usersBucket)
		if there := users.Get(user[:]); there == nil || len(there) >= keySize {
			if err := users.Put(user[:], []byte{0}); err != nil {
				return err
			}
			if err := markErased(tx); err != nil {
				return err
			}
		}
		return endSessions(tx, sessionKeys(tx, user), uuid.Nil)
	})
}

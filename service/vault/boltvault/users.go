package boltvault

import (
	"bytes"
	"context"
	"fmt"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/service/vault"
)

// The users bucket is user → key and password hash, one after the other, or a
// single zero for an erased user. A shared key is there like a user's; the shared
// bucket has a name without value, user and key ID one after the other, for each user
// who shares one.
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

// KeepShared implements vault.Vault.
func (v *Vault) KeepShared(ctx context.Context, id uuid.UUID, key vault.Key, sharing []uuid.UUID) error {
	if len(sharing) > vault.MaxKeys {
		return fmt.Errorf("vault: keep a shared key: %d users, at most %d are allowed", len(sharing), vault.MaxKeys)
	}
	return v.update(ctx, "keep a shared key", func(tx *bolt.Tx) error {
		users, shared := bucket(tx, usersBucket), bucket(tx, sharedBucket)
		if users.Get(id[:]) != nil {
			return vault.ErrExists
		}
		for _, user := range sharing {
			if isErased(users.Get(user[:])) {
				return vault.ErrErased
			}
			if err := shared.Put(append(bytes.Clone(user[:]), id[:]...), nil); err != nil {
				return err
			}
		}
		return users.Put(id[:], bytes.Clone(key[:]))
	})
}

// Erased implements vault.Vault.
func (v *Vault) Erased(ctx context.Context, ids ...uuid.UUID) (map[uuid.UUID]bool, error) {
	if len(ids) > vault.MaxKeys {
		return nil, fmt.Errorf("vault: ask who is erased: %d users, at most %d are allowed", len(ids), vault.MaxKeys)
	}
	erased := make(map[uuid.UUID]bool)
	err := v.view(ctx, "ask who is erased", func(tx *bolt.Tx) error {
		for _, id := range ids {
			if isErased(bucket(tx, usersBucket).Get(id[:])) {
				erased[id] = true
			}
		}
		return nil
	})
	return erased, err
}

func isErased(there []byte) bool { return there != nil && len(there) < keySize }

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
		if err := erase(tx, user); err != nil {
			return err
		}
		if err := eraseShared(tx, user); err != nil {
			return err
		}
		return endSessions(tx, sessionKeys(tx, user), uuid.Nil)
	})
}

func erase(tx *bolt.Tx, id uuid.UUID) error {
	users := bucket(tx, usersBucket)
	if isErased(users.Get(id[:])) {
		return nil
	}
	if err := users.Put(id[:], []byte{0}); err != nil {
		return err
	}
	return markErased(tx)
}

// eraseShared destroys the keys that a user shares.
func eraseShared(tx *bolt.Tx, user uuid.UUID) error {
	shared := bucket(tx, sharedBucket)
	var names [][]byte
	cur := shared.Cursor()
	for name, _ := cur.Seek(user[:]); bytes.HasPrefix(name, user[:]); name, _ = cur.Next() {
		names = append(names, bytes.Clone(name))
	}
	for _, name := range names {
		if err := erase(tx, uuid.UUID(name[len(user):])); err != nil {
			return err
		}
		if err := shared.Delete(name); err != nil {
			return err
		}
	}
	return nil
}

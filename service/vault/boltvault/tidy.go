package boltvault

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/service/vault"
)

const (
	// purgeBatch is how many sessions one transaction drops.
	purgeBatch = 1000
	// copyBytes is about how much one transaction of the copy holds.
	copyBytes = 1 << 20
)

// erasedMark, in the marks bucket, says that free pages may hold a destroyed key.
const erasedMark = "erased"

func markErased(tx *bolt.Tx) error {
	return bucket(tx, marksBucket).Put([]byte(erasedMark), []byte{1})
}

// Tidy implements vault.Vault. Nothing else is done while the file is replaced,
// which takes about a second for a million users.
func (v *Vault) Tidy(ctx context.Context, now time.Time) error {
	if err := v.purge(ctx, now); err != nil {
		return err
	}
	erased := false
	err := v.view(ctx, "look for erased keys", func(tx *bolt.Tx) error {
		erased = bucket(tx, marksBucket).Get([]byte(erasedMark)) != nil
		return nil
	})
	if err != nil || !erased {
		return err
	}
	if err := v.replace(); err != nil {
		return fmt.Errorf("vault: rewrite %s without erased keys: %w", v.path, err)
	}
	return nil
}

// purge drops expired sessions, some at a time so that others get their turn.
func (v *Vault) purge(ctx context.Context, now time.Time) error {
	for more := true; more; {
		err := v.update(ctx, "drop expired sessions", func(tx *bolt.Tx) error {
			expired, err := expired(tx, now)
			if err != nil {
				return err
			}
			more = len(expired) == purgeBatch
			for _, s := range expired {
				if err := endSession(tx, s); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func expired(tx *bolt.Tx, now time.Time) (expired []vault.Session, err error) {
	cur := bucket(tx, sessionsBucket).Cursor()
	for k, b := cur.First(); k != nil && len(expired) < purgeBatch; k, b = cur.Next() {
		s, err := decodeSession(k, b)
		if err != nil {
			return nil, err
		}
		if !now.Before(s.ExpiresAt) {
			expired = append(expired, s)
		}
	}
	return expired, nil
}

// replace copies what is alive into a new file and puts it in the old one's
// place. The old file stays locked until the new one, locked too, has its name.
func (v *Vault) replace() (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	path := v.path + ".new"
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err // left by a crash
	}
	fresh, err := open(path)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, fresh.Close(), os.Remove(path))
		}
	}()
	if err := bolt.Compact(fresh, v.bolt, copyBytes); err != nil {
		return err
	}
	if err := fresh.Update(func(tx *bolt.Tx) error {
		return bucket(tx, marksBucket).Delete([]byte(erasedMark))
	}); err != nil {
		return err
	}
	if err := os.Rename(path, v.path); err != nil {
		return err
	}
	old := v.bolt
	v.bolt = fresh
	if err := old.Close(); err != nil {
		return nil //nolint:nilerr // nothing was changed in it, and its name is gone
	}
	_ = syncFolder(filepath.Dir(v.path)) // if it fails, a crash may bring the old file back
	return nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

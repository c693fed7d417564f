// Package boltvault is the embedded vault: one bbolt file of one process.
//
// Beside what package vault promises:
//   - every change is synced to disk before it is acknowledged;
//   - bbolt never overwrites, so that a destroyed key stays readable in a free
//     page of the file until Tidy has copied what is alive into a new file and
//     put that in the old one's place. What the file system and the disk keep of
//     the old file's blocks is out of reach: encrypt the disk.
package boltvault

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/meet5/backend/events/subscription/boltledger"
	"github.com/meet5/backend/service/vault"
)

// ErrInUse says that another process holds the file.
var ErrInUse = errors.New("the vault's file is in use by another process")

// lockTimeout is how long Open waits for another process to let go.
const lockTimeout = time.Second

// Names of the buckets. What is in each is told beside the code that writes it.
// Those of the ledger are beside them.
const (
	keptBucket     = "kept"
	usersBucket    = "users"
	sessionsBucket = "sessions"
	byUserBucket   = "sessions_by_user"
	marksBucket    = "marks"
	sharedBucket   = "shared" // none in files of earlier builds
)

// Vault is an open file. It implements vault.Vault.
type Vault struct {
	path   string
	mu     sync.RWMutex // held to write while the file is replaced
	bolt   *bolt.DB
	ledger *boltledger.Ledger
}

var _ vault.Vault = (*Vault)(nil)

// Open opens or makes the file. It fails with ErrInUse if another process holds
// it for longer than a second.
func Open(path string) (*Vault, error) {
	db, err := open(path)
	if err != nil {
		return nil, err
	}
	v := &Vault{path: path, bolt: db}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, name := range []string{byUserBucket, keptBucket, marksBucket, sessionsBucket, sharedBucket, usersBucket} {
			if _, err := tx.CreateBucketIfNotExists([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil {
		v.ledger, err = boltledger.New(file{v})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return v, nil
}

func open(path string) (*bolt.DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout, FreelistType: bolt.FreelistMapType})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

// Close waits for calls under way and closes the file.
func (v *Vault) Close() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.bolt.Close()
}

// update and view are not cut short by ctx: a sync of the disk cannot be.
func (v *Vault) update(ctx context.Context, what string, do func(tx *bolt.Tx) error) error {
	return v.transact(ctx, what, do, (*bolt.DB).Update)
}

func (v *Vault) view(ctx context.Context, what string, do func(tx *bolt.Tx) error) error {
	return v.transact(ctx, what, do, (*bolt.DB).View)
}

// method is an Update or View of whichever file is the vault's.
type method func(db *bolt.DB, do func(tx *bolt.Tx) error) error

func (v *Vault) transact(ctx context.Context, what string, do func(tx *bolt.Tx) error, m method) error {
	err := ctx.Err()
	if err == nil {
		err = v.run(m, do)
	}
	if err != nil {
		return fmt.Errorf("vault: %s: %w", what, err)
	}
	return nil
}

func (v *Vault) run(m method, do func(tx *bolt.Tx) error) error {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return m(v.bolt, do)
}

func bucket(tx *bolt.Tx, name string) *bolt.Bucket { return tx.Bucket([]byte(name)) }

// Keep implements vault.Vault. The bucket is name → value.
func (v *Vault) Keep(ctx context.Context, name string, value []byte) ([]byte, error) {
	kept := append([]byte(nil), value...)
	err := v.update(ctx, "keep "+name, func(tx *bolt.Tx) error {
		b := bucket(tx, keptBucket)
		if there := b.Get([]byte(name)); there != nil {
			kept = append([]byte(nil), there...)
			return nil
		}
		return b.Put([]byte(name), value)
	})
	return kept, err
}

// Kept implements vault.Vault.
func (v *Vault) Kept(ctx context.Context, prefix string) (map[string][]byte, error) {
	kept := make(map[string][]byte)
	err := v.view(ctx, "read what is kept", func(tx *bolt.Tx) error {
		cur := bucket(tx, keptBucket).Cursor()
		for k, value := cur.Seek([]byte(prefix)); bytes.HasPrefix(k, []byte(prefix)); k, value = cur.Next() {
			kept[string(k)] = bytes.Clone(value)
		}
		return nil
	})
	return kept, err
}

// Forget implements vault.Vault.
func (v *Vault) Forget(ctx context.Context, names ...string) error {
	if len(names) == 0 {
		return nil
	}
	return v.update(ctx, "forget what was kept", func(tx *bolt.Tx) error {
		for _, name := range names {
			if err := bucket(tx, keptBucket).Delete([]byte(name)); err != nil {
				return err
			}
		}
		return markErased(tx)
	})
}

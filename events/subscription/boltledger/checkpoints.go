package boltledger

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events/subscription"
)

// decodeCheckpoint reads a value of the bucket; nil is no checkpoint yet.
func decodeCheckpoint(at subscription.Place, value []byte) (subscription.Checkpoint, error) {
	c := subscription.Checkpoint{Place: at}
	switch {
	case value == nil:
		return c, nil
	case len(value) == sequenceSize:
		c.Sequence = binary.BigEndian.Uint64(value)
		return c, nil
	}
	if err := json.Unmarshal(value, &c); err != nil {
		return c, fmt.Errorf("checkpoint %v: %w", at, err)
	}
	c.Place = at
	return c, nil
}

// Load implements subscription.Checkpoints.
func (l *Ledger) Load(ctx context.Context, at subscription.Place) (c subscription.Checkpoint, err error) {
	key, err := placeKey(at)
	if err == nil {
		err = l.view(ctx, func(tx *bolt.Tx) (err error) {
			c, err = decodeCheckpoint(at, tx.Bucket(checkpointBucket).Get(key))
			return err
		})
	}
	if err != nil {
		return subscription.Checkpoint{}, fmt.Errorf("load checkpoint %v: %w", at, err)
	}
	return c, nil
}

// Save implements subscription.Checkpoints.
func (l *Ledger) Save(ctx context.Context, c subscription.Checkpoint) error {
	key, err := placeKey(c.Place)
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error {
			b := tx.Bucket(checkpointBucket)
			there, err := decodeCheckpoint(c.Place, b.Get(key))
			if err != nil {
				return err
			}
			c.Sequence, c.At = max(c.Sequence, there.Sequence), kept(c.At)
			value, err := json.Marshal(c)
			if err != nil {
				return err
			}
			return b.Put(key, value)
		})
	}
	if err != nil {
		return fmt.Errorf("save checkpoint %v: %w", c.Place, err)
	}
	return nil
}

// ListFile lists the checkpoints in a file that nobody writes to, without changing
// it; none if there is no file.
func ListFile(ctx context.Context, path string) (out []subscription.Checkpoint, err error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	db, err := bolt.Open(path, 0o600, &bolt.Options{ReadOnly: true, Timeout: lockTimeout})
	if err != nil {
		return nil, fmt.Errorf("list checkpoints in %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return (&Ledger{file: db}).List(ctx)
}

// List implements subscription.Ledger.
func (l *Ledger) List(ctx context.Context) (out []subscription.Checkpoint, err error) {
	err = l.view(ctx, func(tx *bolt.Tx) error {
		b := tx.Bucket(checkpointBucket)
		if b == nil {
			return nil // a file that no ledger has been in yet, opened to read
		}
		return b.ForEach(func(key, value []byte) error {
			at, err := placeOf(key)
			if err != nil {
				return err
			}
			c, err := decodeCheckpoint(at, value)
			out = append(out, c)
			return err
		})
	})
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	// Keys sort otherwise: partition 10 before 2.
	slices.SortFunc(out, func(a, b subscription.Checkpoint) int { return a.Place.Compare(b.Place) })
	return out, nil
}

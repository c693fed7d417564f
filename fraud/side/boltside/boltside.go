// Package boltside keeps the fraud service's side data, labels and its ledger, in
// one bbolt file: the embedded store. One process holds the file at a time.
package boltside

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/google/uuid"
	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/boltledger"
	"github.com/meet5/backend/fraud/labels"
)

// ErrInUse says that another process holds the file.
var ErrInUse = errors.New("the data file is in use by another process")

const (
	// lockTimeout is how long Open waits for another process to let go.
	lockTimeout = time.Second
	// chunk is how many labels one read transaction copies out.
	chunk = 1000
)

// labelBucket is the labels' bucket. Those of the ledger are beside it.
var labelBucket = []byte("labels")

// DB is an open file.
type DB struct {
	bolt   *bolt.DB
	ledger *boltledger.Ledger
}

var _ labels.Store = (*DB)(nil)

// Open opens or makes the file. It fails with ErrInUse if another process holds
// it for longer than a second.
func Open(path string) (*DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	d := &DB{bolt: db}
	err = db.Update(func(tx *bolt.Tx) error {
		_, err := tx.CreateBucketIfNotExists(labelBucket)
		return err
	})
	if err == nil {
		d.ledger, err = boltledger.New(db)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	return d, nil
}

// Ledger is what the fraud service has to remember of the logs that it follows.
func (d *DB) Ledger() subscription.Ledger { return d.ledger }

// Close waits for open transactions and closes the file.
func (d *DB) Close() error { return d.bolt.Close() }

// A label is its key: user, microseconds since 1970 with the sign bit turned so
// that they sort, source, a zero byte, label.
const atSource = 16 + 8

func encode(l labels.Label) []byte {
	k := make([]byte, 0, atSource+len(l.Source)+1+len(l.Label))
	k = append(k, l.User[:]...)
	k = binary.BigEndian.AppendUint64(k, uint64(l.At.UnixMicro())^1<<63) //nolint:gosec // two's complement on purpose
	k = append(k, l.Source...)
	k = append(k, 0)
	return append(k, l.Label...)
}

func decode(k []byte) (labels.Label, error) {
	if len(k) < atSource {
		return labels.Label{}, fmt.Errorf("label of %d bytes is cut off", len(k))
	}
	source, label, ok := bytes.Cut(k[atSource:], []byte{0})
	if !ok {
		return labels.Label{}, errors.New("label without an end of its source")
	}
	at := int64(binary.BigEndian.Uint64(k[16:]) ^ 1<<63) //nolint:gosec // two's complement on purpose
	return labels.Label{
		User: uuid.UUID(k[:16]), At: time.UnixMicro(at).UTC(), Source: string(source), Label: string(label),
	}, nil
}

// Put implements labels.Store.
func (d *DB) Put(ctx context.Context, list []labels.Label) error {
	if err := labels.ValidateAll(list); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("put labels: %w", err)
	}
	err := d.bolt.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(labelBucket)
		for _, l := range list {
			if err := b.Put(encode(l), nil); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("put labels: %w", err)
	}
	return nil
}

// All implements labels.Store. It holds no transaction open while its caller
// works.
func (d *DB) All(ctx context.Context) iter.Seq2[labels.Label, error] {
	return func(yield func(labels.Label, error) bool) {
		var after []byte
		for {
			list, err := d.chunk(after)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(labels.Label{}, fmt.Errorf("read labels: %w", err))
				return
			}
			for _, l := range list {
				if !yield(l, nil) {
					return
				}
			}
			if len(list) < chunk {
				return
			}
			after = encode(list[len(list)-1])
		}
	}
}

// chunk returns the next labels after a key.
func (d *DB) chunk(after []byte) (list []labels.Label, err error) {
	err = d.bolt.View(func(tx *bolt.Tx) error {
		cur := tx.Bucket(labelBucket).Cursor()
		k, _ := cur.Seek(after)
		if after != nil && bytes.Equal(k, after) {
			k, _ = cur.Next()
		}
		for ; k != nil && len(list) < chunk; k, _ = cur.Next() {
			l, err := decode(k)
			if err != nil {
				return err
			}
			list = append(list, l)
		}
		return nil
	})
	return list, err
}

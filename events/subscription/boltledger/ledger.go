// Package boltledger keeps what groups have to remember in a bbolt file: how far
// they have come, and what is parked: one that its service has open anyway, or one
// of its own.
//
// It promises, beside what subscription.Ledger says, that what was acknowledged is
// synced to disk.
//
// The buckets:
//
//	checkpoints  group/log/partition → the checkpoint, as JSON
//	parked       group/log/partition/, and the sequence in 8 bytes, big endian →
//	             the parked event, as JSON
//
// A checkpoint that an earlier build left is its sequence in 8 bytes, big endian.
// It counts, and is replaced when it is saved.
package boltledger

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events/subscription"
)

// sequenceSize is the size, in bytes, of a sequence in a key, and of a checkpoint
// that an earlier build left.
const sequenceSize = 8

var (
	checkpointBucket = []byte("checkpoints")
	parkedBucket     = []byte("parked")
)

// File is what a ledger needs of a file: a *bbolt.DB has it. One that is replaced
// while it is in use guards that in its own.
type File interface {
	Update(do func(tx *bolt.Tx) error) error
	View(do func(tx *bolt.Tx) error) error
}

// Ledger is a subscription.Ledger in a file.
type Ledger struct {
	file  File
	close func() error // nil if the file is not the ledger's
}

var _ subscription.Ledger = (*Ledger)(nil)

// New makes the ledger's buckets if they are not there. The file stays the
// caller's to close.
func New(file File) (*Ledger, error) {
	err := file.Update(func(tx *bolt.Tx) error {
		for _, name := range [][]byte{checkpointBucket, parkedBucket} {
			if _, err := tx.CreateBucketIfNotExists(name); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("make the ledger's buckets: %w", err)
	}
	return &Ledger{file: file}, nil
}

// update and view are not cut short by ctx: a sync of the disk cannot be.
func (l *Ledger) update(ctx context.Context, do func(tx *bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.file.Update(do)
}

func (l *Ledger) view(ctx context.Context, do func(tx *bolt.Tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return l.file.View(do)
}

// placeKey is a place's key. Those of two places differ, since no name has a slash.
func placeKey(at subscription.Place) ([]byte, error) {
	switch {
	case at.Group == "" || strings.Contains(at.Group, "/"):
		return nil, fmt.Errorf("group %q: want a name without a slash", at.Group)
	case at.Log == "" || strings.Contains(at.Log, "/"):
		return nil, fmt.Errorf("log %q: want a name without a slash", at.Log)
	case at.Partition < 0:
		return nil, fmt.Errorf("partition %d: want 0 or more", at.Partition)
	}
	return []byte(at.String()), nil
}

// placeOf is the place that a key names.
func placeOf(key []byte) (subscription.Place, error) {
	parts := strings.Split(string(key), "/")
	if len(parts) != 3 {
		return subscription.Place{}, fmt.Errorf("checkpoint %q: want group/log/partition", key)
	}
	partition, err := strconv.Atoi(parts[2])
	if err != nil {
		return subscription.Place{}, fmt.Errorf("checkpoint %q: want group/log/partition: %w", key, err)
	}
	return subscription.Place{Group: parts[0], Log: parts[1], Partition: partition}, nil
}

// kept is a time as it is kept.
func kept(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

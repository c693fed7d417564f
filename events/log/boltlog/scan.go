package boltlog

import (
	"bytes"
	"context"
	"fmt"
	"iter"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// A Store can be walked over while it is in use; the pages themselves are checked
// by Open, and by Inspect.
var _ log.Scanner = (*Store)(nil)

// Entries implements log.Scanner.
func (s *Store) Entries(ctx context.Context, partition int) iter.Seq2[log.Entry, error] {
	return func(yield func(log.Entry, error) bool) {
		for kv, err := range s.pairs(ctx, s.commits[partition]) {
			if err != nil {
				yield(log.Entry{}, fmt.Errorf("scan %s/%d: %w", s.name, partition, err))
				return
			}
			first, ok := sequenceOf(kv.key)
			e := log.Entry{Place: placeOf(s.commits[partition], kv.key), Sequence: first}
			if !ok || first == 0 {
				e.Err = fmt.Errorf("%w: its key is no sequence", events.ErrCorrupt)
			} else if e.Commit, e.Err = events.Decode(kv.value); e.Err == nil {
				e.Err = belongs(e.Commit, s.name, partition, first)
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Keys implements log.Scanner.
func (s *Store) Keys(ctx context.Context, partition int) iter.Seq2[log.StoredKey, error] {
	return func(yield func(log.StoredKey, error) bool) {
		for kv, err := range s.pairs(ctx, s.keys[partition]) {
			if err != nil {
				yield(log.StoredKey{}, fmt.Errorf("scan keys of %s/%d: %w", s.name, partition, err))
				return
			}
			first, ok := sequenceOf(kv.value)
			k := log.StoredKey{Place: placeOf(s.keys[partition], kv.key), Key: string(kv.key), First: first}
			if !ok {
				k.Err = fmt.Errorf("%w: it leads to %x, which is no sequence", events.ErrCorrupt, kv.value)
			}
			if !yield(k, nil) {
				return
			}
		}
	}
}

// pairs yields what a bucket holds, a few megabytes at a time, so that no
// transaction stays open while its consumer works.
func (s *Store) pairs(ctx context.Context, bucket []byte) iter.Seq2[pair, error] {
	return func(yield func(pair, error) bool) {
		var last []byte // of the keys that were yielded
		for {
			chunk, err := s.after(bucket, last)
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(pair{}, err)
				return
			}
			if len(chunk) == 0 {
				return
			}
			for _, kv := range chunk {
				if !yield(kv, nil) {
					return
				}
				last = kv.key
			}
		}
	}
}

// after copies out what follows a key, nil for the start.
func (s *Store) after(bucket, last []byte) (chunk []pair, err error) {
	err = s.db.view(func(tx *bolt.Tx) error {
		cur := tx.Bucket(bucket).Cursor()
		k, v := cur.Seek(last)
		if k != nil && last != nil && bytes.Equal(k, last) {
			k, v = cur.Next()
		}
		for size := 0; k != nil && size < mostChunk; k, v = cur.Next() {
			chunk = append(chunk, pair{bytes.Clone(k), bytes.Clone(v)})
			size += len(k) + len(v)
		}
		return nil
	})
	return chunk, err
}

package boltledger

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events/subscription"
)

// parkedPrefix begins the keys of a place; those of all places if it is zero.
func parkedPrefix(at subscription.Place) ([]byte, error) {
	if at == (subscription.Place{}) {
		return nil, nil
	}
	key, err := placeKey(at)
	return append(key, '/'), err
}

func parkedKey(at subscription.Place, sequence uint64) ([]byte, error) {
	key, err := placeKey(at)
	return binary.BigEndian.AppendUint64(append(key, '/'), sequence), err
}

// getParked is nil if nothing is there.
func getParked(b *bolt.Bucket, key []byte) (*subscription.Parked, error) {
	value := b.Get(key)
	if value == nil {
		return nil, nil
	}
	return decodeParked(key, value)
}

func decodeParked(key, value []byte) (*subscription.Parked, error) {
	p := new(subscription.Parked)
	if err := json.Unmarshal(value, p); err != nil {
		return nil, fmt.Errorf("parked event %q: %w", key, err)
	}
	return p, nil
}

func putParked(b *bolt.Bucket, key []byte, p subscription.Parked) error {
	value, err := json.Marshal(p)
	if err != nil {
		return err
	}
	return b.Put(key, value)
}

// Park implements subscription.Ledger.
func (l *Ledger) Park(ctx context.Context, list ...subscription.Parked) error {
	if len(list) == 0 {
		return nil
	}
	err := l.update(ctx, func(tx *bolt.Tx) error {
		b := tx.Bucket(parkedBucket)
		for _, p := range list {
			key, err := parkedKey(p.Place, p.Sequence)
			if err != nil {
				return err
			}
			there, err := getParked(b, key)
			if err != nil {
				return err
			}
			if p.ParkedAt = kept(p.ParkedAt); there != nil {
				p.ParkedAt = there.ParkedAt
				if there.Order == subscription.Drop {
					p.Order = subscription.Drop
				}
			}
			if err := putParked(b, key, p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("park %d events of %v: %w", len(list), list[0].Place, err)
	}
	return nil
}

// Parked implements subscription.Ledger.
func (l *Ledger) Parked(ctx context.Context, at subscription.Place) (out []subscription.Parked, err error) {
	prefix, err := parkedPrefix(at)
	if err == nil {
		err = l.view(ctx, func(tx *bolt.Tx) error {
			c := tx.Bucket(parkedBucket).Cursor()
			for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix) && k != nil; k, v = c.Next() {
				if prefix != nil && len(out) == subscription.MaxParked {
					return nil
				}
				p, err := decodeParked(k, v)
				if err != nil {
					return err
				}
				out = append(out, *p)
			}
			return nil
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read what is parked at %v: %w", at, err)
	}
	// Keys of several places sort otherwise: partition 10 before 2.
	slices.SortFunc(out, subscription.Parked.Compare)
	return out[:min(len(out), subscription.MaxParked)], nil
}

// Unpark implements subscription.Ledger.
func (l *Ledger) Unpark(ctx context.Context, at subscription.Place, sequence uint64) error {
	key, err := parkedKey(at, sequence)
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error { return tx.Bucket(parkedBucket).Delete(key) })
	}
	if err != nil {
		return fmt.Errorf("unpark %v at %d: %w", at, sequence, err)
	}
	return nil
}

// Order implements subscription.Ledger.
func (l *Ledger) Order(ctx context.Context, at subscription.Place, sequence uint64, order subscription.Order) error {
	key, err := parkedKey(at, sequence)
	if err == nil {
		err = l.update(ctx, func(tx *bolt.Tx) error {
			b := tx.Bucket(parkedBucket)
			p, err := getParked(b, key)
			if err != nil {
				return err
			}
			if p == nil {
				return subscription.ErrNotParked
			}
			p.Order = order
			return putParked(b, key, *p)
		})
	}
	if err != nil {
		return fmt.Errorf("order to %s %v at %d: %w", order, at, sequence, err)
	}
	return nil
}

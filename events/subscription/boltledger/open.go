package boltledger

import (
	"errors"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// ErrInUse says that another process holds the file.
var ErrInUse = errors.New("the ledger's file is in use by another process")

// lockTimeout is how long Open waits for another process to let go.
const lockTimeout = time.Second

// Open opens or makes a file for a ledger alone, which the caller closes. It fails
// with ErrInUse if another process holds it for longer than a second.
func Open(path string) (*Ledger, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: lockTimeout})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	l, err := New(db)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", path, err), db.Close())
	}
	l.close = db.Close
	return l, nil
}

// Close waits for open transactions and closes the file that Open has opened; a
// file that was given to New stays as it is.
func (l *Ledger) Close() error {
	if l.close == nil {
		return nil
	}
	return l.close()
}

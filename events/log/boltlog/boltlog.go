// Package boltlog keeps logs in one bbolt file: the embedded store.
//
// One process holds the file at a time. Inserts that arrive while a transaction
// is being synced to disk share the next one, so that any number of partitions
// and logs pay for one fsync. A read never holds a transaction open while its
// caller works.
package boltlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// ErrInUse says that another process holds the file.
var ErrInUse = errors.New("the data file is in use by another process")

const (
	// lockTimeout is how long Open waits for another process to let go.
	lockTimeout = time.Second
	// firstChunk and mostChunk are about how much one read transaction copies
	// out: little at first, since many reads want one event, then ever more.
	firstChunk = 16 << 10
	mostChunk  = 4 << 20
)

// DB is an open file with any number of logs.
type DB struct {
	bolt *bolt.DB

	mu      sync.Mutex // guards queue
	queue   []*insert
	writing bool // writeAll is at it
}

// Open opens or makes the file. It fails with ErrInUse if another process holds
// it for longer than a second.
func Open(path string) (*DB, error) {
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true,
		FreelistType:   bolt.FreelistMapType,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, fmt.Errorf("open %s: %w", path, ErrInUse)
	}
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return &DB{bolt: db}, nil
}

// Close waits for open transactions and closes the file.
func (d *DB) Close() error { return d.bolt.Close() }

// Log opens a log of the file, making it with so many partitions if it is not
// there. It fails if it is there with another number.
func (d *DB) Log(name string, partitions int) (*Store, error) {
	s := &Store{db: d, name: name, heads: make([]uint64, partitions)}
	for i := range partitions {
		s.commits = append(s.commits, fmt.Appendf(nil, "%s/p%02d", name, i))
		s.keys = append(s.keys, fmt.Appendf(nil, "%s/k%02d", name, i))
	}
	err := d.bolt.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists([]byte("logs"))
		if err != nil {
			return err
		}
		if v := meta.Get([]byte(name)); v == nil {
			if err := meta.Put([]byte(name), binary.BigEndian.AppendUint32(nil, uint32(partitions))); err != nil { //nolint:gosec // a small number
				return err
			}
		} else if n := int(binary.BigEndian.Uint32(v)); n != partitions {
			return fmt.Errorf("it was made with %d partitions, not %d", n, partitions)
		}
		for i := range partitions {
			b, err := tx.CreateBucketIfNotExists(s.commits[i])
			if err != nil {
				return err
			}
			if _, err := tx.CreateBucketIfNotExists(s.keys[i]); err != nil {
				return err
			}
			if k, v := b.Cursor().Last(); v != nil {
				c, err := events.Decode(bytes.Clone(v))
				if err != nil {
					return fmt.Errorf("partition %d, the last commit, from sequence %d on: %w", i, binary.BigEndian.Uint64(k), err)
				}
				s.heads[i] = c.Last()
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open log %s: %w", name, err)
	}
	return s, nil
}

// Store is one log of a DB. It implements log.Store.
type Store struct {
	db            *DB
	name          string
	commits, keys [][]byte // bucket names

	mu    sync.RWMutex
	heads []uint64
}

var _ log.Store = (*Store)(nil)

// Name is the log's name.
func (s *Store) Name() string { return s.name }

// Partitions is the number of partitions.
func (s *Store) Partitions() int { return len(s.heads) }

// Head is the sequence of the partition's last event.
func (s *Store) Head(_ context.Context, partition int) (uint64, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.heads[partition], nil
}

// insert is one commit that waits for a transaction.
type insert struct {
	store  *Store
	commit events.Commit
	keys   []string
	done   chan error
}

// Insert implements log.Store. It is not cut short by ctx: a sync of the disk
// cannot be.
func (s *Store) Insert(_ context.Context, c events.Commit, keys []string) error {
	in := &insert{store: s, commit: c, keys: keys, done: make(chan error, 1)}
	d := s.db
	d.mu.Lock()
	d.queue = append(d.queue, in)
	// The first to come has what waits written, in a goroutine of its own, so that
	// nobody is held up by what others brought later.
	if !d.writing {
		d.writing = true
		go d.writeAll()
	}
	d.mu.Unlock()
	return <-in.done
}

// writeAll writes, one transaction after the other, until nothing waits.
func (d *DB) writeAll() {
	for {
		runtime.Gosched() // those who were just answered may bring more
		d.mu.Lock()
		batch := d.queue
		d.queue = nil
		d.writing = len(batch) > 0
		d.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		d.write(batch)
	}
}

// write makes the batch durable in one transaction. A commit that is refused
// leaves the others alone.
func (d *DB) write(batch []*insert) {
	results := make([]error, len(batch))
	err := d.bolt.Update(func(tx *bolt.Tx) error {
		for i, in := range batch {
			refused, err := in.put(tx)
			if err != nil {
				return err
			}
			results[i] = refused
		}
		return nil
	})
	for i, in := range batch {
		switch {
		case err != nil:
			in.done <- fmt.Errorf("insert into %s/%d: %w", in.store.name, in.commit.Partition, err)
		default:
			if results[i] == nil {
				in.store.mu.Lock()
				in.store.heads[in.commit.Partition] = in.commit.Last()
				in.store.mu.Unlock()
			}
			in.done <- results[i]
		}
	}
}

// put writes the commit into the transaction, or says why it is refused.
func (in *insert) put(tx *bolt.Tx) (refused, err error) {
	p, first := in.commit.Partition, in.commit.First
	commits, keys := tx.Bucket(in.store.commits[p]), tx.Bucket(in.store.keys[p])
	head := uint64(0)
	if k, v := commits.Cursor().Last(); k != nil {
		// Only the count is needed; the rest was checked when it was written.
		head = binary.BigEndian.Uint64(k) + uint64(events.CountOf(v)) - 1
	}
	switch {
	case first <= head:
		return log.ErrTaken, nil
	case first > head+1:
		return fmt.Errorf("insert into %s/%d: sequence %d after %d would leave a hole", in.store.name, p, first, head), nil
	}
	for _, k := range in.keys {
		if keys.Get([]byte(k)) != nil {
			return log.ErrTaken, nil
		}
	}
	at := binary.BigEndian.AppendUint64(nil, first)
	commits.FillPercent = 1 // sequences only grow
	if err := commits.Put(at, in.commit.Bytes()); err != nil {
		return nil, err
	}
	for _, k := range in.keys {
		if err := keys.Put([]byte(k), at); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// Read implements log.Store.
func (s *Store) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		last := uint64(0) // of the commit before, once there is one
		for size := firstChunk; ; size = min(4*size, mostChunk) {
			if err := ctx.Err(); err != nil {
				yield(events.Commit{}, err)
				return
			}
			chunk, err := s.chunk(partition, after, size)
			if err != nil {
				yield(events.Commit{}, fmt.Errorf("read %s/%d after %d: %w", s.name, partition, after, err))
				return
			}
			if len(chunk) == 0 {
				return
			}
			for _, raw := range chunk {
				c, err := events.Decode(raw)
				if err == nil && (last > 0 && c.First != last+1 || c.First > after+1 || c.Last() <= after) {
					err = fmt.Errorf("%w: sequences %d to %d stand after %d", events.ErrCorrupt, c.First, c.Last(), max(last, after))
				}
				if err != nil {
					yield(events.Commit{}, fmt.Errorf("read %s/%d after %d: %w", s.name, partition, after, err))
					return
				}
				if !yield(c, nil) {
					return
				}
				after, last = c.Last(), c.Last()
			}
		}
	}
}

// chunk copies out some commits that hold sequences above after, at least one if
// there is any.
func (s *Store) chunk(partition int, after uint64, most int) (chunk [][]byte, err error) {
	if head, _ := s.Head(context.Background(), partition); head <= after {
		return nil, nil
	}
	err = s.db.bolt.View(func(tx *bolt.Tx) error {
		cur := tx.Bucket(s.commits[partition]).Cursor()
		k, v := cur.Seek(binary.BigEndian.AppendUint64(nil, after+1))
		if k == nil || binary.BigEndian.Uint64(k) > after+1 {
			// The commit before may hold after+1 in its middle.
			if k == nil {
				k, v = cur.Last()
			} else {
				k, v = cur.Prev()
			}
			if k == nil {
				k, v = cur.First()
			}
		}
		for size := 0; k != nil && size < most; k, v = cur.Next() {
			chunk = append(chunk, bytes.Clone(v))
			size += len(v)
		}
		return nil
	})
	return chunk, err
}

// Held implements log.Store.
func (s *Store) Held(_ context.Context, partition int, keys []string) (map[string]bool, error) {
	held := make(map[string]bool)
	err := s.db.bolt.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(s.keys[partition])
		for _, k := range keys {
			if b.Get([]byte(k)) != nil {
				held[k] = true
			}
		}
		return nil
	})
	return held, err
}

// ByKey implements log.Store.
func (s *Store) ByKey(_ context.Context, partition int, from, to string) ([]events.Commit, error) {
	var raws [][]byte
	err := s.db.bolt.View(func(tx *bolt.Tx) error {
		firsts := make(map[string]bool)
		cur := tx.Bucket(s.keys[partition]).Cursor()
		for k, v := cur.Seek([]byte(from)); k != nil && bytes.Compare(k, []byte(to)) < 0; k, v = cur.Next() {
			firsts[string(v)] = true
		}
		commits := tx.Bucket(s.commits[partition])
		for _, at := range slices.Sorted(maps.Keys(firsts)) {
			raws = append(raws, bytes.Clone(commits.Get([]byte(at))))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up keys of %s/%d: %w", s.name, partition, err)
	}
	out := make([]events.Commit, len(raws))
	for i, raw := range raws {
		if out[i], err = events.Decode(raw); err != nil {
			return nil, fmt.Errorf("look up keys of %s/%d: %w", s.name, partition, err)
		}
	}
	return out, nil
}

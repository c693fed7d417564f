// Package boltlog keeps logs in one bbolt file: the embedded store.
//
// One process holds the file at a time. Inserts that arrive while a transaction
// is being synced to disk share the next one, so that any number of partitions
// and logs pay for one fsync. A read never holds a transaction open while its
// caller works.
//
// What is harmed stops no more than it must, and nothing of it is written over:
//   - a file that is cut off, or whose pages do not hang together, is not opened.
//     ErrDamaged says which pages; to write into it could overwrite pages that
//     only seem to be free. Inspect reads what is left of it;
//   - a commit that is harmed ends the reading of its partition there, with an
//     error that names the place. If it is the last one, or one that a writer
//     needs to know, the partition refuses appends with that error. Other
//     partitions and logs go on.
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

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

const (
	// firstChunk and mostChunk are about how much one read transaction copies
	// out: little at first, since many reads want one event, then ever more.
	firstChunk = 16 << 10
	mostChunk  = 4 << 20
)

// DB is an open file with any number of logs.
type DB struct {
	bolt   *bolt.DB
	faults []Fault // survived

	mu      sync.Mutex // guards queue
	queue   []*insert
	writing bool // writeAll is at it
}

// Close waits for open transactions and closes the file.
func (d *DB) Close() error { return d.bolt.Close() }

// Log opens a log of the file, making it with so many partitions if it is not
// there. It fails if it is there with another number. A partition whose last
// commit is harmed is opened for reading.
func (d *DB) Log(name string, partitions int) (*Store, error) {
	s := &Store{db: d, name: name, harmed: make([]harm, partitions)}
	for i := range partitions {
		s.commits = append(s.commits, commitBucket(name, i))
		s.keys = append(s.keys, keyBucket(name, i))
	}
	err := d.view(s.load)
	if errors.Is(err, errNotMade) {
		err = d.update(func(tx *bolt.Tx) error {
			if err := s.make(tx); err != nil {
				return err
			}
			return s.load(tx)
		})
	}
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
	harmed        []harm   // by partition, as of the opening
}

// harm is why a partition takes no commits, and its head as far as can be told. The
// zero value is a partition that is whole.
type harm struct {
	err  error
	head uint64
}

var _ log.Store = (*Store)(nil)

// logsBucket holds the number of partitions of each log.
const logsBucket = "logs"

// errNotMade says that a log, or a part of it, is not there yet.
var errNotMade = errors.New("it is not there")

func commitBucket(name string, partition int) []byte {
	return fmt.Appendf(nil, "%s/p%02d", name, partition)
}

func keyBucket(name string, partition int) []byte {
	return fmt.Appendf(nil, "%s/k%02d", name, partition)
}

func partitionsOf(v []byte) (n int, ok bool) {
	if len(v) != 4 {
		return 0, false
	}
	return int(binary.BigEndian.Uint32(v)), true
}

// sequenceOf reads the key of a commit.
func sequenceOf(k []byte) (first uint64, ok bool) {
	if len(k) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(k), true
}

// placeOf says where a value stands.
func placeOf(bucket, k []byte) string {
	if first, ok := sequenceOf(k); ok {
		return fmt.Sprintf("bucket %s, key %d", bucket, first)
	}
	return fmt.Sprintf("bucket %s, key %x", bucket, k)
}

// belongs says what is wrong with a commit that stands where another should.
func belongs(c events.Commit, name string, partition int, first uint64) error {
	if c.Log != name || c.Partition != partition || c.First != first {
		return fmt.Errorf("%w: it holds commit %d of %s/%d", events.ErrCorrupt, c.First, c.Log, c.Partition)
	}
	return nil
}

// make makes what is not there.
func (s *Store) make(tx *bolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists([]byte(logsBucket))
	if err != nil {
		return err
	}
	if meta.Get([]byte(s.name)) == nil {
		if err := meta.Put([]byte(s.name), binary.BigEndian.AppendUint32(nil, uint32(len(s.harmed)))); err != nil { //nolint:gosec // a small number
			return err
		}
	}
	for _, b := range slices.Concat(s.commits, s.keys) {
		if _, err := tx.CreateBucketIfNotExists(b); err != nil {
			return err
		}
	}
	return nil
}

// load looks at where the log's partitions end.
func (s *Store) load(tx *bolt.Tx) error {
	meta := tx.Bucket([]byte(logsBucket))
	if meta == nil || meta.Get([]byte(s.name)) == nil {
		return errNotMade
	}
	v := meta.Get([]byte(s.name))
	if n, ok := partitionsOf(v); !ok {
		return fmt.Errorf("%w: the number of its partitions is %x", events.ErrCorrupt, v)
	} else if n != len(s.harmed) {
		return fmt.Errorf("it was made with %d partitions, not %d", n, len(s.harmed))
	}
	for i := range s.harmed {
		b := tx.Bucket(s.commits[i])
		if b == nil || tx.Bucket(s.keys[i]) == nil {
			return errNotMade
		}
		s.harmed[i] = s.tail(i, b.Cursor())
	}
	return nil
}

// tail reads a partition's last commit. If it is harmed, the head is the best
// guess there is, and beyond what is whole, so that whoever reads up to it meets
// the harm.
func (s *Store) tail(partition int, cur *bolt.Cursor) harm {
	k, v := cur.Last()
	if k == nil {
		return harm{}
	}
	_, err := s.decode(partition, k, bytes.Clone(v))
	if err == nil {
		return harm{}
	}
	strange := uint64(0)
	for k != nil {
		if first, ok := sequenceOf(k); ok {
			return harm{err, endOf(first, v) + strange}
		}
		strange = 1
		k, v = cur.Prev()
	}
	return harm{err, strange}
}

// endOf is the last sequence of a commit that may be harmed, as far as can be told.
func endOf(first uint64, raw []byte) uint64 {
	if n := events.CountOf(raw); n > 0 && n <= events.MaxCommitEvents {
		return first + uint64(n) - 1
	}
	return first
}

// decode reads a commit that stands under a key. The error names the place.
func (s *Store) decode(partition int, k, raw []byte) (events.Commit, error) {
	c, err := events.Decode(raw)
	if err == nil {
		first, _ := sequenceOf(k)
		err = belongs(c, s.name, partition, first)
	}
	if err != nil {
		return events.Commit{}, fmt.Errorf("%s: %w", placeOf(s.commits[partition], k), err)
	}
	return c, nil
}

// Name is the log's name.
func (s *Store) Name() string { return s.name }

// Partitions is the number of partitions.
func (s *Store) Partitions() int { return len(s.harmed) }

// Head implements log.Store.
func (s *Store) Head(_ context.Context, partition int) (head uint64, err error) {
	err = s.db.view(func(tx *bolt.Tx) error {
		head = s.head(tx, partition)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("head of %s/%d: %w", s.name, partition, err)
	}
	return head, nil
}

// head is the partition's head as the transaction sees it.
func (s *Store) head(tx *bolt.Tx, partition int) uint64 {
	if h := s.harmed[partition]; h.err != nil {
		return h.head
	}
	k, v := tx.Bucket(s.commits[partition]).Cursor().Last()
	if k == nil {
		return 0
	}
	first, _ := sequenceOf(k)
	return endOf(first, v) // it was checked at the opening, or written since
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
	err := d.update(func(tx *bolt.Tx) error {
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
		if err != nil {
			results[i] = fmt.Errorf("insert into %s/%d: %w", in.store.name, in.commit.Partition, err)
		}
		in.done <- results[i]
	}
}

// put writes the commit into the transaction, or says why it is refused.
func (in *insert) put(tx *bolt.Tx) (refused, err error) {
	p, first := in.commit.Partition, in.commit.First
	if h := in.store.harmed[p]; h.err != nil {
		return fmt.Errorf("insert into %s/%d, whose last commit is harmed: %w", in.store.name, p, h.err), nil
	}
	switch head := in.store.head(tx, p); {
	case first <= head:
		return log.ErrTaken, nil
	case first > head+1:
		return fmt.Errorf("insert into %s/%d: sequence %d after %d would leave a hole", in.store.name, p, first, head), nil
	}
	commits, keys := tx.Bucket(in.store.commits[p]), tx.Bucket(in.store.keys[p])
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
			for _, kv := range chunk {
				c, err := s.decode(partition, kv.key, kv.value)
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

// pair is a key and its value, copied out of the file.
type pair struct{ key, value []byte }

// chunk copies out some commits that hold sequences above after, at least one if
// there is any.
func (s *Store) chunk(partition int, after uint64, most int) (chunk []pair, err error) {
	err = s.db.view(func(tx *bolt.Tx) error {
		if s.head(tx, partition) <= after {
			return nil
		}
		cur := tx.Bucket(s.commits[partition]).Cursor()
		k, v := cur.Seek(binary.BigEndian.AppendUint64(nil, after+1))
		if first, _ := sequenceOf(k); k == nil || first > after+1 {
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
			chunk = append(chunk, pair{bytes.Clone(k), bytes.Clone(v)})
			size += len(v)
		}
		return nil
	})
	return chunk, err
}

// Held implements log.Store.
func (s *Store) Held(_ context.Context, partition int, keys []string) (map[string]bool, error) {
	held := make(map[string]bool)
	err := s.db.view(func(tx *bolt.Tx) error {
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
	var found []pair
	err := s.db.view(func(tx *bolt.Tx) error {
		firsts := make(map[string]bool)
		cur := tx.Bucket(s.keys[partition]).Cursor()
		for k, v := cur.Seek([]byte(from)); k != nil && bytes.Compare(k, []byte(to)) < 0; k, v = cur.Next() {
			firsts[string(v)] = true
		}
		commits := tx.Bucket(s.commits[partition])
		for _, at := range slices.Sorted(maps.Keys(firsts)) {
			found = append(found, pair{[]byte(at), bytes.Clone(commits.Get([]byte(at)))})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look up keys of %s/%d: %w", s.name, partition, err)
	}
	out := make([]events.Commit, len(found))
	for i, kv := range found {
		if out[i], err = s.decode(partition, kv.key, kv.value); err != nil {
			return nil, fmt.Errorf("look up keys of %s/%d: %w", s.name, partition, err)
		}
	}
	return out, nil
}

package boltlog

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"

	bolt "go.etcd.io/bbolt"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// maxStoredKey bounds, in bytes, what is read as a key's value.
const maxStoredKey = 8

// Inspection is a file that is read for checking, harmed or not. It reads the
// pages itself, so that no harm ends it, and never writes.
type Inspection struct {
	file  *os.File
	hold  *bolt.DB // keeps writers out; nil if bbolt refuses the file
	pages pageFile
}

// Inspect opens the file, keeps other processes from writing to it, and reports
// every fault of its pages. The error is ErrInUse, or ErrDamaged if there is no
// way into the file at all.
func Inspect(path string, report func(Fault)) (*Inspection, error) {
	i, err := inspect(path, report)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	return i, nil
}

func inspect(path string, report func(Fault)) (_ *Inspection, err error) {
	i := &Inspection{}
	if i.file, err = os.Open(path); err != nil {
		return nil, err
	}
	// A lock, no more: to open a file for reading, bbolt looks at its meta pages
	// only. If it does not take it, neither does any other process.
	if i.hold, err = openBolt(path, true); errors.Is(err, ErrInUse) {
		return nil, errors.Join(err, i.Close())
	}
	info, err := i.file.Stat()
	if err != nil {
		return nil, errors.Join(err, i.Close())
	}
	pages, err := openPages(i.file, info.Size(), report)
	if pages == nil {
		return nil, errors.Join(err, i.Close())
	}
	if err != nil {
		pages.fault(uint64(info.Size()/pages.meta.pageSize), "%v", err) //nolint:gosec // a size is not negative
	}
	pages.check()
	i.pages = *pages
	return i, nil
}

// Close lets go of the file.
func (i *Inspection) Close() error {
	var err error
	if i.hold != nil {
		err = i.hold.Close()
	}
	return errors.Join(err, i.file.Close())
}

// Log is a walk over a log that the file should hold with so many partitions.
func (i *Inspection) Log(name string, partitions int) log.Scanner {
	return &scanner{file: i, name: name, partitions: partitions}
}

// scanner implements log.Scanner.
type scanner struct {
	file       *Inspection
	name       string
	partitions int
}

func (s *scanner) Name() string    { return s.name }
func (s *scanner) Partitions() int { return s.partitions }

// walk visits what a top-level bucket holds; false if there is no such bucket.
// Faults of the pages were reported when the file was opened.
func (s *scanner) walk(bucket []byte, visit func(f *pageFile, key []byte, at place) bool) (found bool) {
	f := s.file.pages
	f.report = func(Fault) {}
	var at place
	f.begin()
	f.tree(f.meta.root, 0, bounds{}, 0, func(key []byte, there place) bool {
		if found = there.bucket && string(key) == string(bucket); found {
			at = there
		}
		return !found
	})
	if !found {
		return false
	}
	f.begin()
	f.openBucket(at, 0, func(key []byte, at place) bool { return visit(&f, key, at) })
	return true
}

// Entries implements log.Scanner.
func (s *scanner) Entries(ctx context.Context, partition int) iter.Seq2[log.Entry, error] {
	return func(yield func(log.Entry, error) bool) {
		if err := s.made(); partition == 0 && err != nil && !yield(log.Entry{Place: "bucket logs, key " + s.name, Err: err}, nil) {
			return
		}
		bucket := commitBucket(s.name, partition)
		going := true
		found := s.walk(bucket, func(f *pageFile, key []byte, at place) bool {
			if err := ctx.Err(); err != nil {
				yield(log.Entry{}, err)
				going = false
			} else {
				going = yield(s.entry(f, partition, key, at), nil)
			}
			return going
		})
		if going && !found {
			yield(log.Entry{Place: "bucket " + string(bucket), Err: fmt.Errorf("%w: it is missing", events.ErrCorrupt)}, nil)
		}
	}
}

// made checks what the file says that the log was made with.
func (s *scanner) made() error {
	err := fmt.Errorf("%w: the file does not say that it holds the log", events.ErrCorrupt)
	s.walk([]byte(logsBucket), func(f *pageFile, key []byte, at place) bool {
		if string(key) != s.name {
			return true
		}
		b := make([]byte, min(at.size, maxStoredKey))
		if !f.read(at.page, b, at.offset) {
			return false
		}
		n, ok := partitionsOf(b)
		switch {
		case !ok:
			err = fmt.Errorf("%w: the number of its partitions is %x", events.ErrCorrupt, b)
		case n != s.partitions:
			err = fmt.Errorf("%w: it was made with %d partitions, not %d", events.ErrCorrupt, n, s.partitions)
		default:
			err = nil
		}
		return false
	})
	return err
}

func (s *scanner) entry(f *pageFile, partition int, key []byte, at place) log.Entry {
	first, ok := sequenceOf(key)
	e := log.Entry{
		Place: fmt.Sprintf("%s, page %d, bytes %d to %d of the file",
			placeOf(commitBucket(s.name, partition), key), at.page, at.offset, at.offset+int64(at.size)-1),
		Sequence: first,
	}
	if !ok || first == 0 {
		e.Err = fmt.Errorf("%w: its key is no sequence", events.ErrCorrupt)
		return e
	}
	if at.bucket || at.size > events.MaxCommitBytes {
		e.Err = fmt.Errorf("%w: a value of %d bytes, bucket: %v", events.ErrCorrupt, at.size, at.bucket)
		return e
	}
	raw := make([]byte, at.size)
	if !f.read(at.page, raw, at.offset) {
		e.Err = fmt.Errorf("%w: it cannot be read", events.ErrCorrupt)
		return e
	}
	c, err := events.Decode(raw)
	if err != nil {
		e.Err = err
		return e
	}
	e.Commit, e.Err = c, belongs(c, s.name, partition, first)
	return e
}

// Keys implements log.Scanner.
func (s *scanner) Keys(ctx context.Context, partition int) iter.Seq2[log.StoredKey, error] {
	return func(yield func(log.StoredKey, error) bool) {
		bucket := keyBucket(s.name, partition)
		going := true
		found := s.walk(bucket, func(f *pageFile, key []byte, at place) bool {
			if err := ctx.Err(); err != nil {
				yield(log.StoredKey{}, err)
				going = false
				return false
			}
			k := log.StoredKey{Place: placeOf(bucket, key) + fmt.Sprintf(", page %d", at.page), Key: string(key)}
			b := make([]byte, min(at.size, maxStoredKey))
			first, ok := uint64(0), !at.bucket && at.size == len(b) && f.read(at.page, b, at.offset)
			if ok {
				first, ok = sequenceOf(b)
			}
			if k.First = first; !ok {
				k.Err = fmt.Errorf("%w: it leads to %x, which is no sequence", events.ErrCorrupt, b)
			}
			going = yield(k, nil)
			return going
		})
		if going && !found {
			yield(log.StoredKey{Place: "bucket " + string(bucket), Err: fmt.Errorf("%w: it is missing", events.ErrCorrupt)}, nil)
		}
	}
}

// Head is about where the partition ends: what its last commit says of itself,
// whole or not.
func (s *scanner) Head(_ context.Context, partition int) (head uint64, err error) {
	s.walk(commitBucket(s.name, partition), func(f *pageFile, key []byte, at place) bool {
		first, ok := sequenceOf(key)
		if !ok {
			return true
		}
		raw := make([]byte, min(at.size, events.MaxCommitBytes))
		if f.meta.pageSize < int64(len(raw)) {
			raw = raw[:f.meta.pageSize] // the header is at its start
		}
		head = first
		if f.read(at.page, raw, at.offset) {
			head = endOf(first, raw)
		}
		return true
	})
	return head, nil
}

package boltlog

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"github.com/meet5/backend/events"
)

// Errors of Open and Inspect.
var (
	// ErrInUse says that another process holds the file.
	ErrInUse = errors.New("the data file is in use by another process")
	// ErrDamaged says that the file is cut off or its pages are harmed.
	ErrDamaged = errors.New("the data file is harmed")
)

const (
	// lockTimeout is how long Open waits for another process to let go.
	lockTimeout = time.Second
	// faultsTold is how many faults Open's error spells out.
	faultsTold = 3
	// unfinished is added to the name of a file that is being made.
	unfinished = ".new"
)

// Open opens the file, or makes it. It checks every page first, which reads
// about as much as bbolt itself reads when it opens a file. It fails with
// ErrInUse if another process holds the file for longer than a second, and with
// ErrDamaged if the file is cut off, empty or harmed; then it is left as it is.
func Open(path string) (*DB, error) {
	db, err := open(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return db, nil
}

func open(path string) (*DB, error) {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := create(path); err != nil {
			return nil, err
		}
	}
	faults, err := examine(path)
	if err != nil {
		return nil, err
	}
	d := &DB{faults: faults}
	if d.bolt, err = openBolt(path, false); err != nil {
		return nil, err
	}
	return d, nil
}

// openBolt opens a file whose pages are sound, or for its lock alone.
func openBolt(path string, readOnly bool) (db *bolt.DB, err error) {
	defer contain(&err)()
	db, err = bolt.Open(path, 0o600, &bolt.Options{
		Timeout:        lockTimeout,
		NoFreelistSync: true,
		FreelistType:   bolt.FreelistMapType,
		ReadOnly:       readOnly,
	})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return nil, ErrInUse
	}
	return db, err
}

// create makes an empty file under another name and then gives it its own, so
// that a file that is there is a whole one: an empty one has lost everything.
func create(path string) error {
	db, err := openBolt(path+unfinished, false)
	if err != nil {
		return fmt.Errorf("make it: %w", err)
	}
	// While this process holds the new file, no other can be about to rename it.
	err = os.Rename(path+unfinished, path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // another process had it before us and has renamed it
	}
	return errors.Join(err, syncFolder(filepath.Dir(path)), db.Close())
}

// syncFolder makes names durable.
func syncFolder(path string) error {
	if runtime.GOOS == "windows" {
		return nil // there a folder cannot be synced, and need not be
	}
	folder, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// examine checks all pages of a file that no other process writes to. It returns
// faults that are survived: at most one, of a meta page.
func examine(path string) (survived []Fault, err error) {
	var faults []Fault
	more := 0
	i, err := Inspect(path, func(f Fault) {
		switch {
		case f.Survived:
			survived = append(survived, f)
		case len(faults) < faultsTold:
			faults = append(faults, f)
		default:
			more++
		}
	})
	if err != nil {
		return nil, err
	}
	if err := i.Close(); err != nil {
		return nil, err
	}
	if len(faults) == 0 {
		return survived, nil
	}
	err = fmt.Errorf("%w and was left as it is", ErrDamaged)
	for _, f := range faults {
		err = fmt.Errorf("%w; %v", err, f)
	}
	if more > 0 {
		err = fmt.Errorf("%w; and %d faults more", err, more)
	}
	return nil, fmt.Errorf("%w: restore a backup; `meet5 verify` lists what is harmed and what is whole", err)
}

// Faults are what Open found and could do without: a meta page that is harmed,
// whose transaction, the latest or the one before it, is lost if it was ever
// complete. A power cut while it was being written leaves the same.
func (d *DB) Faults() []Fault { return d.faults }

// view runs a read transaction. A page that went bad after Open gives an error.
func (d *DB) view(do func(*bolt.Tx) error) (err error) {
	defer contain(&err)()
	return d.bolt.View(do)
}

// update runs a write transaction in the same way.
func (d *DB) update(do func(*bolt.Tx) error) (err error) {
	defer contain(&err)()
	return d.bolt.Update(do)
}

// contain makes an error of what bbolt does when it meets a harmed page: a panic,
// or a signal from the mapped file.
func contain(err *error) (recovering func()) {
	before := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(before)
		if r := recover(); r != nil {
			*err = fmt.Errorf("%w: %w: %v", ErrDamaged, events.ErrCorrupt, r)
		}
	}
}

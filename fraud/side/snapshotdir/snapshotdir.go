// Package snapshotdir keeps the fraud service's snapshots as files of a folder.
//
// It promises that
//   - what is read under a name is what was saved last under it, whole: a file is written
//     beside the old one, brought to the disk, and then takes its place;
//   - the folder may be deleted at any time. It is made again when something is saved.
//
// Several processes may use one folder. Files have mode 0600.
package snapshotdir

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	suffix    = ".snapshot"
	temporary = ".tmp"
)

// Dir is a folder of snapshots.
type Dir struct{ path string }

// Open returns the folder at a path. It does no I/O.
func Open(path string) *Dir { return &Dir{path} }

// Read implements fraud.Snapshots.
func (d *Dir) Read(name string) (io.ReadCloser, error) {
	path, err := d.file(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err // and no *os.File that is nil
	}
	return f, nil
}

// Save implements fraud.Snapshots.
func (d *Dir) Save(name string, write func(io.Writer) error) error {
	path, err := d.file(name)
	if err == nil {
		err = d.replace(path, write)
	}
	if err != nil {
		return fmt.Errorf("save snapshot %s: %w", name, err)
	}
	return nil
}

func (d *Dir) replace(path string, write func(io.Writer) error) (err error) {
	if err := os.MkdirAll(d.path, 0o700); err != nil {
		return err
	}
	if err := d.tidy(path); err != nil {
		return err
	}
	f, err := os.CreateTemp(d.path, filepath.Base(path)+".*"+temporary)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return syncFolder(d.path)
}

// tidy removes what a crash has left of earlier attempts to write a file. Another
// process that is writing it at this moment has to try again.
func (d *Dir) tidy(path string) error {
	left, err := filepath.Glob(path + ".*" + temporary)
	for _, file := range left {
		err = errors.Join(err, os.Remove(file))
	}
	return err
}

func (d *Dir) file(name string) (string, error) {
	if name == "" || strings.ContainsAny(name, `/\*?[`) {
		return "", fmt.Errorf("%q cannot be the name of a snapshot: it is empty, or has one of /\\*?[", name)
	}
	return filepath.Join(d.path, name+suffix), nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

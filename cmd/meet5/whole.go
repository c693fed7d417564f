package main

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
)

// writeWhole writes a file whole or not at all: under another name beside its own,
// which it takes once all of it is on the disk, in the place of a file that had it. A
// device, a pipe and the like cannot be replaced and are written to.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	if linked, err := filepath.EvalSymlinks(path); err == nil {
		path = linked // the link stays one
	}
	old, err := os.Stat(path)
	switch {
	case err == nil && !old.Mode().IsRegular():
		file, err := os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // a user names it
		if err != nil {
			return err
		}
		return errors.Join(write(file), file.Close())
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return err
	}
	file, err := os.OpenFile(path+"."+rand.Text()[:8]+".part", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o666) //nolint:gosec // as any file that a user makes
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(file.Name()))
		}
	}()
	if err = write(file); err == nil {
		err = file.Sync()
	}
	if err == nil && old != nil {
		err = file.Chmod(old.Mode().Perm())
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	return os.Rename(file.Name(), path)
}

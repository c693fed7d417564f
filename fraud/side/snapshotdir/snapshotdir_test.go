package snapshotdir_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/side/snapshotdir"
)

var _ fraud.Snapshots = (*snapshotdir.Dir)(nil)

func text(s string) func(io.Writer) error {
	return func(to io.Writer) error {
		_, err := io.WriteString(to, s)
		return err
	}
}

func read(t *testing.T, d *snapshotdir.Dir, name string) string {
	t.Helper()
	f, err := d.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range list {
		all = append(all, e.Name())
	}
	return strings.Join(all, " ")
}

func TestWhatIsReadIsWhatWasSavedLast(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "on demand")
	d := snapshotdir.Open(dir)
	if _, err := d.Read("activity-3"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before anything was saved: %v", err)
	}
	for _, s := range []string{"first", "2"} {
		if err := d.Save("activity-3", text(s)); err != nil {
			t.Fatal(err)
		}
		if got := read(t, d, "activity-3"); got != s {
			t.Errorf("read %q, want %q", got, s)
		}
	}
	if _, err := d.Read("activity-4"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of another name: %v", err)
	}
	info, err := os.Stat(filepath.Join(dir, "activity-3.snapshot"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestASaveThatFailsLeavesWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	d := snapshotdir.Open(dir)
	if err := d.Save("a", text("old")); err != nil {
		t.Fatal(err)
	}
	broken := errors.New("no more")
	err := d.Save("a", func(to io.Writer) error { return errors.Join(text("ne")(to), broken) })
	if !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if got := read(t, d, "a"); got != "old" {
		t.Errorf("read %q", got)
	}
	if got := names(t, dir); got != "a.snapshot" {
		t.Errorf("left are %s", got)
	}
}

func TestWhatACrashHasLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	d := snapshotdir.Open(dir)
	for _, name := range []string{"a.snapshot.123.tmp", "ab.snapshot.7.tmp", "notes"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := d.Save("a", text("x")); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); got != "a.snapshot ab.snapshot.7.tmp notes" {
		t.Errorf("there are %s", got)
	}
}

func TestANameThatIsNoFileNameIsRefused(t *testing.T) {
	d := snapshotdir.Open(t.TempDir())
	for _, name := range []string{"", "../a", `a\b`, "a*", "a?", "a[b]"} {
		if err := d.Save(name, text("x")); err == nil {
			t.Errorf("%q was saved", name)
		}
		if _, err := d.Read(name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("read %q: %v", name, err)
		}
	}
}

// Processes that share a folder may keep each other from saving, never from reading
// something whole.
func TestOfSeveralThatSaveAtOnceOneIsReadWhole(t *testing.T) {
	dir := t.TempDir()
	var all sync.WaitGroup
	var texts [4]string
	for i := range texts {
		texts[i] = strings.Repeat(string(rune('a'+i)), 100_000)
		all.Go(func() {
			d := snapshotdir.Open(dir)
			for range 20 {
				_ = d.Save("a", text(texts[i])) // another may have removed what it was writing
				f, err := d.Read("a")
				if errors.Is(err, fs.ErrNotExist) {
					continue
				}
				b, err := io.ReadAll(f)
				if f.Close(); err != nil || len(b) != len(texts[i]) || !bytes.Equal(b, bytes.Repeat(b[:1], len(b))) {
					t.Errorf("read %d bytes, %v", len(b), err)
				}
			}
		})
	}
	all.Wait()
	d := snapshotdir.Open(dir)
	if err := d.Save("a", text("last")); err != nil || read(t, d, "a") != "last" {
		t.Error(err)
	}
}

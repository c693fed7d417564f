package main_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	main "github.com/meet5/backend/cmd/meet5"
)

func TestReplayWritesTheFormatThatIsAskedForOrThatTheFileIsNamedAfter(t *testing.T) {
	t.Parallel()
	dir, to := simulated(t), t.TempDir()
	all := lines(t, must(t, "replay", "activity", "--data", dir).out)
	formats := map[string]func(data []byte) int{
		"ndjson": func(data []byte) int { return bytes.Count(data, []byte(`{"specversion":"1.0"`)) },
		"csv": func(data []byte) int {
			rows, err := csv.NewReader(bytes.NewReader(data)).ReadAll()
			if err != nil || len(rows) == 0 || rows[0][0] != "id" {
				return -1
			}
			return len(rows) - 1
		},
		"parquet": func(data []byte) int {
			file, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
			if err != nil {
				return -1
			}
			return int(file.NumRows())
		},
	}
	for _, c := range []struct{ format, file, want string }{
		{"", "", "ndjson"}, {"csv", "", "csv"}, {"parquet", "", "parquet"},
		{"", "a.csv", "csv"}, {"", "a.parquet", "parquet"}, {"", "a.txt", "ndjson"}, {"ndjson", "b.csv", "ndjson"}, {"parquet", "events", "parquet"},
	} {
		args := []string{"replay", "activity", "--data", dir}
		if c.format != "" {
			args = append(args, "--format", c.format)
		}
		file := filepath.Join(to, c.file)
		if c.file != "" {
			args = append(args, "-o", file)
		}
		data := []byte(must(t, args...).out)
		if c.file != "" {
			var err error
			if data, err = os.ReadFile(file); err != nil { //nolint:gosec // a test's file
				t.Fatal(err)
			}
		}
		if n := formats[c.want](data); n != len(all) {
			t.Errorf("--format %q -o %q: %d events in %s, want %d", c.format, c.file, n, c.want, len(all))
		}
	}
}

func TestAFileIsWrittenWholeOrNotAtAll(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
	broken := errors.New("broken")
	write := func(text string, err error) func(io.Writer) error {
		return func(to io.Writer) error {
			_, writing := io.WriteString(to, text)
			return errors.Join(writing, err)
		}
	}
	says := func(want string) {
		t.Helper()
		var names []string
		entries, err := os.ReadDir(dir)
		for _, e := range entries {
			names = append(names, e.Name())
		}
		if got := strings.Join(names, " "); got != want || err != nil {
			t.Errorf("the folder holds %q, want %q; %v", got, want, err)
		}
	}
	if err := main.WriteWhole(file, write("half", broken)); !errors.Is(err, broken) {
		t.Errorf("a new file that breaks off: %v", err)
	}
	says("")
	if err := errors.Join(main.WriteWhole(file, write("whole", nil)), os.Chmod(file, 0o640), os.Symlink("file", link)); err != nil {
		t.Fatal(err)
	}
	if err := main.WriteWhole(link, write("half", broken)); !errors.Is(err, broken) {
		t.Errorf("a file that breaks off in the place of another: %v", err)
	}
	if got, err := os.ReadFile(file); string(got) != "whole" || err != nil { //nolint:gosec // a test's file
		t.Errorf("the file that was there is %q, %v", got, err)
	}
	if err := main.WriteWhole(link, write("new", nil)); err != nil {
		t.Fatal(err)
	}
	says("file link")
	info, err := os.Lstat(file)
	got, reading := os.ReadFile(file) //nolint:gosec // a test's file
	if err != nil || reading != nil || string(got) != "new" || info.Mode() != 0o640 {
		t.Errorf("the file that a link leads to is %q with mode %v; %v, %v", got, info.Mode(), err, reading)
	}
	if to, err := os.Readlink(link); to != "file" || err != nil {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if err := main.WriteWhole(dir, write("", nil)); err == nil {
		t.Error("a folder was written to")
	}
}

package main_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// terminal opens one: the side of who looks at it, and that of programs.
func terminal(t *testing.T) (outer, inner *os.File) {
	t.Helper()
	outer, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { outer.Close() })
	fd := int(outer.Fd()) //nolint:gosec // a file descriptor
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	inner, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return outer, inner
}

// onTerminal runs a command whose standard error is a terminal, and returns what
// it wrote to its standard output, a pipe, and to the terminal.
func onTerminal(t *testing.T, args ...string) (out, screen string) {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	outer, inner := terminal(t)
	var stdout bytes.Buffer
	cmd := exec.CommandContext(t.Context(), path, args...) //nolint:gosec // our own program
	cmd.Stdout, cmd.Stderr = &stdout, inner
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inner.Close()
	shown, _ := io.ReadAll(outer) // it ends with an error once nobody holds the other side
	if err := cmd.Wait(); err != nil {
		t.Fatalf("meet5 %s: %v\n%s", strings.Join(args, " "), err, shown)
	}
	return stdout.String(), string(shown)
}

func TestLongWorkShowsProgressOnATerminalAndDataGoesElsewhere(t *testing.T) {
	t.Parallel()
	csv := write(t, "visits.csv", "u,i,ts\n"+strings.Repeat("a,b,1\n", 20_000))
	dir := filepath.Join(t.TempDir(), "data")
	for _, c := range []struct {
		args []string
		unit string
		out  string
	}{
		{[]string{"import", csv, "--actor", "u", "--target", "i", "--time", "ts"}, "rows", ""},
		{[]string{"simulate", "--until", until}, "acts", ""},
		{[]string{"backtest", meet5Rule}, "events", "meet5-first-minutes"},
		{[]string{"verify"}, "events", "activity: 16 partitions"},
		{[]string{"replay", "activity"}, "events", `{"specversion"`},
	} {
		out, screen := onTerminal(t, append(c.args, "--data", dir)...)
		if !strings.Contains(screen, "\r") || !strings.Contains(screen, c.unit+"/s") {
			t.Errorf("%v shows no %s/s on a terminal but %q", c.args, c.unit, screen)
		}
		if !strings.Contains(out, c.out) || strings.ContainsAny(out, "\r\x1b") || c.out == "" && out != "" {
			t.Errorf("%v writes to standard output %.200q", c.args, out)
		}
	}
}

func TestParquetIsNotWrittenToATerminal(t *testing.T) {
	t.Parallel()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	outer, inner := terminal(t)
	cmd := exec.CommandContext(t.Context(), path, "replay", "activity", "--format", "parquet", "--data", simulated(t)) //nolint:gosec // our own program
	cmd.Stdout, cmd.Stderr = inner, inner
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	inner.Close()
	shown, _ := io.ReadAll(outer)
	_ = cmd.Wait()
	if screen := string(shown); cmd.ProcessState.ExitCode() != usage || !strings.Contains(screen, "-o") || strings.Contains(screen, "PAR1") {
		t.Errorf("exit code %d, with %.300q on the screen", cmd.ProcessState.ExitCode(), screen)
	}
}

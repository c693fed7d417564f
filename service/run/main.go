// Package run is the life cycle of a process: how it starts, serves, drains and
// ends.
//
// Its promises:
//   - SIGINT and SIGTERM end the context, once; a second one ends the process;
//   - the exit code is 0 for done, 1 for failed, 2 for wrong usage, and an error
//     is said once, on standard error;
//   - a drain lets requests under way finish, for a bounded time, and accepts no
//     new ones;
//   - nothing that was started is left behind: [Group] and [HTTP] return only
//     after everything in them has, save a request that ignores being cut off.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// UsageError is a command line or an environment that makes no sense: exit code 2.
type UsageError struct{ Err error }

func (e *UsageError) Error() string { return e.Err.Error() }
func (e *UsageError) Unwrap() error { return e.Err }

// ErrDone ends a program early and well, as after --help: exit code 0.
var ErrDone = errors.New("done")

// Main is a program's main function:
//
//	func main() { run.Main("activity", realMain) }
//
// It calls realMain with a context that SIGINT and SIGTERM end, and exits the
// process. A realMain that returns the context's own error after such a signal
// has done as it was told: exit code 0.
func Main(name string, realMain func(ctx context.Context) error) {
	os.Exit(execute(context.Background(), name, os.Stderr, realMain))
}

func execute(parent context.Context, name string, stderr io.Writer, realMain func(ctx context.Context) error) int {
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// Once the first signal has come, the second one has its default effect.
	context.AfterFunc(ctx, stop)

	err := contain(ctx, realMain)
	switch {
	case err == nil, errors.Is(err, ErrDone), endedAsTold(ctx, err):
		return exitDone
	default:
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
	}
	if _, ok := errors.AsType[*UsageError](err); ok {
		return exitUsage
	}
	return exitFailed
}

// endedAsTold says that err is the end of ctx and nothing else: where errors are
// joined, another one may hide.
func endedAsTold(ctx context.Context, err error) bool {
	if ctx.Err() == nil {
		return false
	}
	for ; err != nil; err = errors.Unwrap(err) {
		if err == context.Canceled { //nolint:errorlint // it walks the chain itself
			return true
		}
	}
	return false
}

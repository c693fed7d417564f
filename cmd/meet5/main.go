// Command meet5 is the whole backend in one process, and the tools around it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/alecthomas/kong"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/run"
)

// commands is the command line.
type commands struct {
	Up          up               `cmd:"" help:"Run everything in one process."`
	Bench       benchmark        `cmd:"" help:"Measure the backend beside its limits."`
	Chaos       chaosRun         `cmd:"" help:"Ill-treat a real backend, and check that its promises hold."`
	Import      importFile       `cmd:"" help:"Take activities in from a CSV file."`
	Simulate    simulate         `cmd:"" help:"Make up members, honest and not, and what they did."`
	Replay      replayLog        `cmd:"" help:"Write a log's events out, in order."`
	Backtest    backtestRules    `cmd:"" help:"Try fraud rules on all of history."`
	Rules       rules            `cmd:"" help:"Work on fraud rules."`
	Keys        keys             `cmd:"" help:"Look after the keys that access tokens are signed with."`
	Parked      parked           `cmd:"" help:"Look after events that subscriptions have put aside."`
	Projections projectionsTools `cmd:"" help:"Look after read models and what follows the logs."`
	Migrate     migrate          `cmd:"" help:"Bring MongoDB's collections and indexes up to date."`
	Verify      verifyLogs       `cmd:"" help:"Check the log's promises on the data itself."`

	config.Logging
}

// defaultData is the folder of the embedded data.
const defaultData = ".data"

// place is where the tools find the data.
type place struct {
	Data   string `help:"Folder of the embedded data." placeholder:"DIR" default:".data" env:"MEET5_DATA"`
	Mongo  string `help:"MongoDB to use instead." placeholder:"URI" env:"MEET5_MONGO"`
	AMQP   string `name:"amqp" help:"RabbitMQ to use with it." placeholder:"URI" env:"MEET5_AMQP"`
	Prefix string `help:"What the names of databases and exchanges begin with." default:"meet5" env:"MEET5_PREFIX"`
}

func (p place) where() backend.Where {
	w := backend.Where{Data: p.Data, Mongo: p.Mongo, AMQP: p.AMQP}
	if p.Prefix != "meet5" {
		w.Prefix = p.Prefix
	}
	return w
}

// Validate is called by kong.
func (p place) Validate() error { return p.where().Validate() }

// openToRead opens the data for a command that writes none: where there is none,
// it makes none.
func (p place) openToRead(ctx context.Context, con *console) (*backend.Tools, error) {
	if p.where().Empty() {
		return nil, &run.UsageError{Err: fmt.Errorf("--data: there is no data in %s; up, import and simulate make it", p.Data)}
	}
	w := p.where()
	w.ReadOnly = true
	return backend.OpenTools(ctx, w, con.logger)
}

// console is what a command talks to: data goes to out, everything else to err.
type console struct {
	out    io.Writer
	err    io.Writer
	logger *slog.Logger
}

func (c *console) say(format string, args ...any) { fmt.Fprintf(c.err, format+"\n", args...) }

func main() {
	run.Main("meet5", func(ctx context.Context) error { return realMain(ctx, os.Args[1:], os.Stdout, os.Stderr) })
}

func realMain(ctx context.Context, args []string, out, errOut io.Writer) error {
	var cli commands
	helped := false
	parser, err := kong.New(&cli, kong.Name("meet5"),
		kong.Description("An event-sourced backend for a social app."),
		kong.Writers(out, errOut), kong.Exit(func(int) { helped = true }),
		kong.UsageOnError(), kong.BindTo(ctx, (*context.Context)(nil)))
	if err != nil {
		return fmt.Errorf("command line: %w", err)
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	switch {
	case helped:
		return run.ErrDone
	case err != nil:
		return &run.UsageError{Err: fmt.Errorf("%w (see meet5 --help)", err)}
	}
	err = command.Run(&console{out: out, err: errOut, logger: cli.Logger(errOut, "meet5")})
	switch {
	case errors.Is(err, boltlog.ErrInUse):
		return fmt.Errorf("%w: stop it first, or ask it over HTTP", err)
	case ctx.Err() != nil && errors.Is(err, context.Canceled) && command.Command() != "up":
		// For a server that is how it ends; what a tool was to do is not done.
		return fmt.Errorf("interrupted: %v", err) //nolint:errorlint // not to be taken for an end as told
	}
	return err
}

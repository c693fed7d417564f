package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/dataset"
	"github.com/meet5/backend/cmd/ingest"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/service/run"
)

// faultsShown is how many unreadable rows are printed; the others are counted.
const faultsShown = 20

// columns are the flags that say where a CSV file has what.
type columns struct {
	Actor  string `help:"Column of who acts." required:"" placeholder:"COL"`
	Target string `help:"Column of whose profile it is." required:"" placeholder:"COL"`
	Time   string `help:"Column of when: RFC 3339, or seconds since 1970." required:"" placeholder:"COL"`
	Type   string `help:"visit, like, or the column that says which." default:"visit" placeholder:"visit|like|COL"`
	Label  string `help:"Column of a label on the actor, kept beside the log for backtests." placeholder:"COL"`
}

type importFile struct {
	File string `arg:"" help:"The CSV file; its first line names the columns." type:"existingfile"`
	columns
	Strict bool `help:"Stop at the first row that cannot be read."`
	place
}

// Run is called by kong.
func (c *importFile) Run(ctx context.Context, con *console) error {
	if err := c.check(c.File); err != nil {
		return err
	}
	b, err := backend.OpenTools(ctx, c.where(), con.logger)
	if err != nil {
		return err
	}
	start := time.Now()
	n, err := c.run(ctx, con, b)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	took := time.Since(start)
	con.say("%d rows: %d activities written, %d in the log already, %d not readable; %d members, %d labels; %.1f s, %.0f rows/s",
		n.rows+n.faults, n.Written, n.Known, n.faults, n.members, n.labels, took.Seconds(), float64(n.rows)/took.Seconds())
	return nil
}

type imported struct {
	ingest.Counts
	rows, faults, members, labels int
}

func (c *importFile) run(ctx context.Context, con *console, b *backend.Tools) (n imported, err error) {
	members := dataset.Members{}
	var marked []labels.Label
	shown := func(fault *dataset.RowError) error {
		if c.Strict {
			return fault
		}
		if n.faults++; n.faults <= faultsShown {
			con.say("%s: %v", c.File, fault)
		} else if n.faults == faultsShown+1 {
			con.say("%s: further faults are only counted", c.File)
		}
		return nil
	}
	// The first reading finds who is in the file and since when, the second
	// writes what they did.
	if err = c.rows(members, shown, func(r dataset.Row) error {
		n.rows++
		if r.Label != "" {
			marked = append(marked, labels.Label{User: r.Actor.ID, At: r.At, Label: r.Label, Source: "import"})
		}
		return ctx.Err()
	}); err != nil {
		return n, err
	}
	accounts := make([]ingest.Account, 0, len(members))
	for _, m := range members {
		accounts = append(accounts, ingest.Account{ID: m.ID, Name: m.Name, JoinedAt: m.JoinedAt})
	}
	if err = ingest.Accounts(ctx, b.User, accounts); err != nil {
		return n, err
	}
	n.members = len(accounts)
	writer, err := ingest.NewWriter(ctx, b.Logs.Activity, b.Logs.User)
	if err != nil {
		return n, err
	}
	progress := con.progress(n.rows, "rows")
	defer progress.done()
	if err = c.rows(members, func(*dataset.RowError) error { return nil }, func(r dataset.Row) error {
		progress.add(1)
		return writer.Add(ctx, ingest.Act{
			ID: r.ID(), Kind: r.Kind, Actor: r.Actor.ID, Target: r.Target.ID, At: r.At, JoinedAt: r.Actor.JoinedAt,
		})
	}); err != nil {
		return n, err
	}
	if n.Counts, err = writer.Flush(ctx); err != nil {
		return n, err
	}
	for some := range slices.Chunk(marked, labels.MaxBatch) {
		if err := b.Labels.Put(ctx, some); err != nil {
			return n, err
		}
		n.labels += len(some)
	}
	return n, nil
}

// open finds the columns in a file's first line. The caller closes the file.
func (c *columns) open(path string, members dataset.Members) (*dataset.Reader, io.Closer, error) {
	f, err := os.Open(path) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, nil, err
	}
	r, err := dataset.NewReader(f, dataset.Columns{Actor: c.Actor, Target: c.Target, Time: c.Time, Type: c.Type, Label: c.Label}, members)
	if err == nil {
		return r, f, nil
	}
	err = fmt.Errorf("%s: %w", path, err)
	if _, ok := errors.AsType[*dataset.ColumnError](err); ok {
		err = &run.UsageError{Err: err}
	}
	return nil, nil, errors.Join(err, f.Close())
}

// check is for before anything else is opened or made.
func (c *columns) check(path string) error {
	_, f, err := c.open(path, dataset.Members{})
	if err != nil {
		return err
	}
	return f.Close()
}

// read reads a file once.
func (c *columns) read(path string, members dataset.Members, bad func(*dataset.RowError) error, good func(dataset.Row) error) error {
	r, f, err := c.open(path, members)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		row, err := r.Next()
		var fault *dataset.RowError
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.As(err, &fault):
			err = bad(fault)
		case err == nil:
			err = good(row)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
}

func (c *importFile) rows(members dataset.Members, bad func(*dataset.RowError) error, good func(dataset.Row) error) error {
	return c.read(c.File, members, bad, good)
}

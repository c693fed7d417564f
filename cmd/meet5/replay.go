package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/replay"
	"github.com/meet5/backend/projections/export"
	"github.com/meet5/backend/service/run"
)

type replayLog struct {
	Log       string         `arg:"" help:"Which log: user, activity or fraud." enum:"user,activity,fraud"`
	Types     []string       `name:"type" help:"Only events of this type (repeatable)."`
	Actor     uuid.UUID      `help:"Only what this user did (the stream)."`
	Target    uuid.UUID      `help:"Only what was done to this user."`
	Since     time.Time      `help:"Only what occurred at or after this time (RFC 3339)."`
	Until     time.Time      `help:"Only what occurred before this time (RFC 3339)."`
	Partition *int           `help:"Only this partition."`
	After     uint64         `help:"Only sequences above this one; needs --partition."`
	Limit     int            `help:"End after so many events."`
	Format    *export.Format `help:"ndjson (a CloudEvent a line), csv or parquet; without it, what the name of the file ends with, or else ndjson." placeholder:"FORMAT"`
	Output    string         `short:"o" help:"Write to this file, whole or not at all." placeholder:"FILE" type:"path"`
	place
}

// Run is called by kong.
func (c *replayLog) Run(ctx context.Context, con *console) (err error) {
	f := replay.Filter{
		Types: c.Types, Actor: c.Actor, Target: c.Target, Since: c.Since, Until: c.Until,
		Partition: c.Partition, After: c.After, Limit: c.Limit,
	}
	format := export.Of(c.Output)
	if c.Format != nil {
		format = *c.Format
	}
	if format == export.Parquet && c.Output == "" && isTerminal(con.out) {
		return &run.UsageError{Err: errors.New("--format: parquet is nothing to read on a terminal; name a file with -o, or give it to another program with |")}
	}
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r := map[string]log.Reader{events.UserLog: b.Logs.User, events.ActivityLog: b.Logs.Activity, events.FraudLog: b.Logs.Fraud}[c.Log]
	if err := f.Validate(r); err != nil {
		return &run.UsageError{Err: fmt.Errorf("--%w", err)}
	}
	bar := progress{}
	if c.Output != "" || !isTerminal(con.out) { // it would stand between the events
		if bar, err = c.progress(ctx, con, r, f); err != nil {
			return err
		}
	}
	n, err := c.write(con.out, format, replay.Events(ctx, r, f), bar)
	bar.done()
	con.say("%d events", n)
	return err
}

// progress begins the bar. How many events a filter keeps is known at the end.
func (c *replayLog) progress(ctx context.Context, con *console, r log.Reader, f replay.Filter) (progress, error) {
	if len(f.Types) > 0 || f.Actor != uuid.Nil || f.Target != uuid.Nil || !f.Since.IsZero() || !f.Until.IsZero() || f.Partition != nil || f.Limit > 0 {
		return con.progress(unknown, "events"), nil
	}
	total, err := length(ctx, r)
	return con.progress(total, "events"), err
}

// write writes to the file that --output names, or else to out.
func (c *replayLog) write(out io.Writer, f export.Format, all iter.Seq2[events.Recorded, error], bar progress) (n int, err error) {
	write := func(to io.Writer) (err error) {
		n, err = c.writeAll(to, f, all, bar)
		return err
	}
	if c.Output == "" {
		err = write(out)
	} else {
		err = writeWhole(c.Output, write)
	}
	return n, err
}

func (c *replayLog) writeAll(to io.Writer, f export.Format, all iter.Seq2[events.Recorded, error], bar progress) (n int, err error) {
	buffer := bufio.NewWriterSize(to, 1<<16)
	w := export.NewWriter(f, buffer, c.Log)
	for e, err := range all {
		if err != nil {
			return n, errors.Join(err, buffer.Flush())
		}
		if err := w.Write(e); err != nil {
			return n, fmt.Errorf("write the events: %w", err)
		}
		n++
		bar.add(1)
	}
	if err := w.Close(); err != nil {
		return n, fmt.Errorf("write the events: %w", err)
	}
	return n, buffer.Flush()
}

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/replay"
	"github.com/meet5/backend/service/run"
)

type replayLog struct {
	Log       string    `arg:"" help:"Which log: user, activity or fraud." enum:"user,activity,fraud"`
	Types     []string  `name:"type" help:"Only events of this type (repeatable)."`
	Actor     uuid.UUID `help:"Only what this user did (the stream)."`
	Target    uuid.UUID `help:"Only what was done to this user."`
	Since     time.Time `help:"Only what occurred at or after this time (RFC 3339)."`
	Until     time.Time `help:"Only what occurred before this time (RFC 3339)."`
	Partition *int      `help:"Only this partition."`
	After     uint64    `help:"Only sequences above this one; needs --partition."`
	Limit     int       `help:"End after so many events."`
	Format    string    `help:"ndjson: one CloudEvent a line." enum:"ndjson" default:"ndjson"`
	Output    string    `short:"o" help:"Write to this file." placeholder:"FILE" type:"path"`
	place
}

// Run is called by kong.
func (c *replayLog) Run(ctx context.Context, con *console) (err error) {
	f := replay.Filter{
		Types: c.Types, Actor: c.Actor, Target: c.Target, Since: c.Since, Until: c.Until,
		Partition: c.Partition, After: c.After, Limit: c.Limit,
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
	n, err := c.writeTo(con.out, replay.Events(ctx, r, f), bar)
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

// writeTo writes to the file that --output names, or else to out.
func (c *replayLog) writeTo(out io.Writer, all iter.Seq2[events.Recorded, error], bar progress) (int, error) {
	if c.Output == "" {
		return c.write(out, all, bar)
	}
	file, err := os.Create(c.Output)
	if err != nil {
		return 0, err
	}
	n, err := c.write(file, all, bar)
	return n, errors.Join(err, file.Close())
}

func (c *replayLog) write(out io.Writer, all iter.Seq2[events.Recorded, error], bar progress) (n int, err error) {
	w := bufio.NewWriterSize(out, 1<<16)
	var line []byte
	for e, err := range all {
		if err != nil {
			return n, errors.Join(err, w.Flush())
		}
		line = append(events.AppendCloudEvent(line[:0], c.Log, e), '\n')
		if _, err := w.Write(line); err != nil {
			return n, fmt.Errorf("write the events: %w", err)
		}
		n++
		bar.add(1)
	}
	return n, w.Flush()
}

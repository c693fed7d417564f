package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
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
	Partition int       `help:"Only this partition." default:"-1"`
	After     uint64    `help:"Only sequences above this one; needs --partition."`
	Limit     int       `help:"End after so many events."`
	Format    string    `help:"ndjson: one CloudEvent a line." enum:"ndjson" default:"ndjson"`
	Output    string    `short:"o" help:"Write to this file." placeholder:"FILE" type:"path"`
	place
}

// Run is called by kong.
func (c *replayLog) Run(ctx context.Context, con *console) (err error) {
	f := replay.Filter{
		Types: c.Types, Actor: c.Actor, Target: c.Target, Since: c.Since, Until: c.Until, After: c.After, Limit: c.Limit,
	}
	if c.Partition >= 0 {
		f.Partition = &c.Partition
	}
	b, err := backend.OpenTools(ctx, c.where(), con.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	r := map[string]log.Reader{events.UserLog: b.Logs.User, events.ActivityLog: b.Logs.Activity, events.FraudLog: b.Logs.Fraud}[c.Log]
	if err := f.Validate(r); err != nil {
		return &run.UsageError{Err: fmt.Errorf("--%w", err)}
	}
	out := con.out
	if c.Output != "" {
		file, err := os.Create(c.Output)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		out = file
	}
	n, err := c.write(ctx, out, r, f)
	con.say("%d events", n)
	return err
}

func (c *replayLog) write(ctx context.Context, out io.Writer, r log.Reader, f replay.Filter) (n int, err error) {
	w := bufio.NewWriterSize(out, 1<<16)
	var line []byte
	for e, err := range replay.Events(ctx, r, f) {
		if err != nil {
			return n, errors.Join(err, w.Flush())
		}
		line = append(events.AppendCloudEvent(line[:0], c.Log, e), '\n')
		if _, err := w.Write(line); err != nil {
			return n, fmt.Errorf("write the events: %w", err)
		}
		n++
	}
	return n, w.Flush()
}

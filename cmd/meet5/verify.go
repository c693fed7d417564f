package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/dataset"
	"github.com/meet5/backend/cmd/verify"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/run"
)

type verifyLogs struct {
	CSV    string `name:"csv" help:"Also check that the read models agree with the visits of this file, if nothing else was written." placeholder:"FILE" type:"existingfile"`
	Actor  string `help:"Column of the file, as in import." placeholder:"COL"`
	Target string `help:"Column of the file, as in import." placeholder:"COL"`
	Time   string `help:"Column of the file, as in import." placeholder:"COL"`
	Type   string `help:"As in import." default:"visit" placeholder:"visit|like|COL"`
	JSON   bool   `name:"json" help:"Write the summary as JSON."`
	place
}

// Run is called by kong.
func (c *verifyLogs) Run(ctx context.Context, con *console) error {
	if c.CSV != "" {
		if err := c.columns().check(c.CSV); err != nil {
			return err
		}
	}
	sums, faults, err := c.logs(ctx, con)
	if err != nil {
		return err
	}
	if err := c.print(con, sums); err != nil {
		return err
	}
	if c.CSV != "" {
		n, err := c.agreeWithViews(ctx, con)
		if err != nil {
			return errors.Join(foundFaults(faults), err)
		}
		faults += n
	}
	if faults > 0 {
		return foundFaults(faults)
	}
	con.say("all promises hold")
	return nil
}

// foundFaults is the error of a command that has done its work and found faults.
func foundFaults(n int) error {
	if n == 0 {
		return nil
	}
	return fmt.Errorf("%d faults found", n)
}

// logs checks the logs where they are.
func (c *verifyLogs) logs(ctx context.Context, con *console) ([]verify.Summary, int, error) {
	if c.where().Real() {
		return c.services(ctx, con)
	}
	return c.file(ctx, con)
}

// logNames are the logs with the number of their partitions.
var logNames = []struct {
	name       string
	partitions int
}{
	{events.UserLog, events.UserPartitions},
	{events.ActivityLog, events.ActivityPartitions},
	{events.FraudLog, events.FraudPartitions},
}

// file checks the pages of the file, and then what they hold. It opens the file
// in a way that no harm can stop, as long as there is a way into it at all.
func (c *verifyLogs) file(ctx context.Context, con *console) (sums []verify.Summary, faults int, err error) {
	if c.where().Empty() {
		return nil, 0, &run.UsageError{Err: fmt.Errorf("--data: there is no data in %s; up, import and simulate make it", c.Data)}
	}
	path := c.where().LogFile()
	i, err := boltlog.Inspect(path, func(f boltlog.Fault) {
		faults++
		con.say("%v", verify.Finding{Place: path, Message: f.String()})
	})
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, i.Close()) }()
	var logs []log.Scanner
	for _, l := range logNames {
		logs = append(logs, i.Log(l.name, l.partitions))
	}
	reached, err := c.where().CheckpointsInFiles(ctx)
	sayUnreached(con, err)
	sums, n, err := c.check(ctx, con, logs, reached)
	return sums, faults + n, err
}

// services checks the logs on MongoDB, and that they are guarded as they must be.
func (c *verifyLogs) services(ctx context.Context, con *console) (sums []verify.Summary, faults int, err error) {
	dbs, client, err := backend.Connect(ctx, c.where())
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, client.Disconnect(context.WithoutCancel(ctx))) }()
	var logs []log.Scanner
	for _, l := range logNames {
		s := mongolog.Open(dbs.Log, l.name, l.partitions)
		switch err := s.Check(ctx); {
		case errors.Is(err, mongolog.ErrNotReady), errors.Is(err, events.ErrCorrupt):
			faults++
			con.say("%v", verify.Finding{Message: err.Error()})
		case err != nil:
			return nil, 0, err
		}
		logs = append(logs, s)
	}
	reached, err := backend.Checkpoints(ctx, dbs)
	sayUnreached(con, err)
	sums, n, err := c.check(ctx, con, logs, reached)
	return sums, faults + n, err
}

// sayUnreached tells that checkpoints could not be read. It is no fault of a log.
func sayUnreached(con *console, err error) {
	if err != nil {
		con.say("not all checkpoints can be read, so that the end of a log may be missing and not be missed: %v", err)
	}
}

// check checks each log by itself, which must reach as far as was reached before.
func (c *verifyLogs) check(ctx context.Context, con *console, logs []log.Scanner, reached []subscription.Checkpoint) (sums []verify.Summary, faults int, err error) {
	bar := con.progress(lengthOf(ctx, logs), "events")
	defer bar.done()
	for _, s := range logs {
		sum, err := verify.Scan(ctx, s, reached, func(f verify.Finding) {
			bar.clear()
			con.say("%v", f)
		}, bar.add)
		if err != nil {
			return nil, 0, err
		}
		sums, faults = append(sums, sum), faults+sum.Findings
	}
	return sums, faults, nil
}

// length is how many events a log holds.
func length(ctx context.Context, l log.Reader) (events int, err error) {
	for p := range l.Partitions() {
		head, err := l.Head(ctx, p)
		if err != nil {
			return 0, err
		}
		events += int(head) //nolint:gosec // a count of events
	}
	return events, nil
}

// lengthOf is about how many events harmed logs hold, unknown if they cannot say.
func lengthOf(ctx context.Context, logs []log.Scanner) (total int) {
	for _, l := range logs {
		ended, ok := l.(interface {
			Head(ctx context.Context, partition int) (uint64, error)
		})
		if !ok {
			return unknown
		}
		for p := range l.Partitions() {
			head, err := ended.Head(ctx, p)
			if err != nil {
				return unknown
			}
			total += int(head) //nolint:gosec // a count of events
		}
	}
	return total
}

func (c *verifyLogs) print(con *console, sums []verify.Summary) error {
	if c.JSON {
		e := json.NewEncoder(con.out)
		e.SetIndent("", "  ")
		return e.Encode(sums)
	}
	for _, s := range sums {
		state := "dense, no faults"
		if s.Findings > 0 {
			state = fmt.Sprintf("%d faults", s.Findings)
		}
		fmt.Fprintf(con.out, "%s: %d partitions, %d commits, %d events; %s\n", s.Log, s.Partitions, s.Commits, s.Events, state)
		for _, t := range slices.Sorted(maps.Keys(s.Types)) {
			fmt.Fprintf(con.out, "  %s: %d\n", t, s.Types[t])
		}
	}
	return nil
}

func (c *verifyLogs) columns() *columns {
	return &columns{Actor: c.Actor, Target: c.Target, Time: c.Time, Type: c.Type}
}

// agreeWithViews opens the read models and compares them.
func (c *verifyLogs) agreeWithViews(ctx context.Context, con *console) (n int, err error) {
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	return c.agree(ctx, con, b)
}

// agree compares the file's visits with the read models.
func (c *verifyLogs) agree(ctx context.Context, con *console, b *backend.Tools) (int, error) {
	want := verify.Visits{}
	if err := c.columns().read(c.CSV, dataset.Members{}, func(*dataset.RowError) error { return nil }, func(r dataset.Row) error {
		want.Add(r)
		return nil
	}); err != nil {
		return 0, err
	}
	views, err := b.CurrentViews(ctx)
	if err != nil {
		return 0, err
	}
	bar := con.progress(want.Comparisons(), "lists")
	n, err := want.Agree(ctx, views, func(message string) {
		bar.clear()
		con.say("%s", message)
	}, func() { bar.add(1) })
	bar.done()
	if err == nil && n == 0 {
		fmt.Fprintf(con.out, "read models: the visits of %d actors to %d targets agree with %s\n", want.Actors(), want.Targets(), c.CSV)
	}
	return n, err
}

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
	"github.com/meet5/backend/events/log"
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
func (c *verifyLogs) Run(ctx context.Context, con *console) (err error) {
	if c.CSV != "" {
		if err := c.columns().check(c.CSV); err != nil {
			return err
		}
	}
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	sums, faults, err := c.check(ctx, con, []log.Store{b.Stores.User, b.Activity, b.Fraud})
	if err != nil {
		return err
	}
	if err := c.print(con, sums); err != nil {
		return err
	}
	if c.CSV != "" {
		n, err := c.agree(ctx, con, b)
		if err != nil {
			return err
		}
		faults += n
	}
	if faults > 0 {
		return fmt.Errorf("%d faults found", faults)
	}
	con.say("all promises hold")
	return nil
}

// check checks each log by itself.
func (c *verifyLogs) check(ctx context.Context, con *console, logs []log.Store) (sums []verify.Summary, faults int, err error) {
	total := 0
	for _, s := range logs {
		n, err := length(ctx, s)
		if err != nil {
			return nil, 0, err
		}
		total += n
	}
	bar := con.progress(total, "events")
	defer bar.done()
	for _, s := range logs {
		sum, err := verify.Log(ctx, s, func(f verify.Finding) {
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

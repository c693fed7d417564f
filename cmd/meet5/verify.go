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
	b, err := backend.OpenTools(ctx, c.where(), con.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	faults := 0
	report := func(f verify.Finding) {
		faults++
		con.say("%v", f)
	}
	var sums []verify.Summary
	for _, s := range []log.Store{b.Stores.User, b.Activity, b.Fraud} {
		sum, err := verify.Log(ctx, s, report)
		if err != nil {
			return err
		}
		sums = append(sums, sum)
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

func (c *verifyLogs) print(con *console, sums []verify.Summary) error {
	if c.JSON {
		e := json.NewEncoder(con.out)
		e.SetIndent("", "  ")
		return e.Encode(sums)
	}
	for _, s := range sums {
		fmt.Fprintf(con.out, "%s: %d partitions, %d commits, %d events, dense; %d faults\n", s.Log, s.Partitions, s.Commits, s.Events, s.Findings)
		for _, t := range slices.Sorted(maps.Keys(s.Types)) {
			fmt.Fprintf(con.out, "  %s: %d\n", t, s.Types[t])
		}
	}
	return nil
}

// agree compares the file's visits with the read models.
func (c *verifyLogs) agree(ctx context.Context, con *console, b *backend.Tools) (int, error) {
	want := verify.Visits{}
	columns := columns{Actor: c.Actor, Target: c.Target, Time: c.Time, Type: c.Type}
	if err := columns.read(c.CSV, dataset.Members{}, func(*dataset.RowError) error { return nil }, func(r dataset.Row) error {
		want.Add(r)
		return nil
	}); err != nil {
		return 0, err
	}
	views, err := b.CurrentViews(ctx)
	if err != nil {
		return 0, err
	}
	n, err := want.Agree(ctx, views, func(message string) { con.say("%s", message) })
	if err == nil && n == 0 {
		fmt.Fprintf(con.out, "read models: the visits of %d actors to %d targets agree with %s\n", want.Actors(), want.Targets(), c.CSV)
	}
	return n, err
}

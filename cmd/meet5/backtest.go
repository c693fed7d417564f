package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/run"
)

// These are the command; the package of the same name does the work.
type backtestRules struct {
	File  string    `arg:"" help:"The rules, as YAML." type:"existingfile"`
	Since time.Time `help:"Count events and hits from this time on (RFC 3339)."`
	Until time.Time `help:"Count events and hits before this time (RFC 3339)."`
	JSON  bool      `name:"json" help:"Write the result as JSON."`
	place
}

// Run is called by kong.
func (c *backtestRules) Run(ctx context.Context, con *console) (err error) {
	if !c.Since.IsZero() && !c.Until.IsZero() && !c.Since.Before(c.Until) {
		return &run.UsageError{Err: errors.New("--until: must be later than --since")}
	}
	list, err := readRules(c.File)
	if err != nil {
		return err
	}
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	board := flag.NewBoard()
	for e, err := range log.Events(ctx, b.Logs.Fraud, 0, 0) {
		if err == nil {
			err = board.Apply(e)
		}
		if err != nil {
			return fmt.Errorf("read the flags on record: %w", err)
		}
	}
	bar, done := progress{}, uint64(0)
	report, err := backtest.Run(ctx, b.Logs.Activity, list, backtest.Options{
		Since: c.Since, Until: c.Until, Flagged: board.Standing(c.Since, c.Until), Labels: b.Labels.All(ctx),
		Progress: func(p backtest.Progress) {
			if done == 0 {
				bar = con.progress(int(p.Total), "events") //nolint:gosec // a count of events
			}
			bar.add(int(p.Events - done)) //nolint:gosec // a count of events
			done = p.Events
		},
	})
	bar.done()
	if err != nil {
		return err
	}
	if c.JSON {
		e := json.NewEncoder(con.out)
		e.SetIndent("", "  ")
		return e.Encode(report)
	}
	return report.WriteTable(con.out)
}

func readRules(path string) ([]rule.Rule, error) {
	text, err := os.ReadFile(path) //nolint:gosec // the file that the user names
	if err != nil {
		return nil, err
	}
	list, err := rule.Parse(text)
	if err != nil {
		return nil, &run.UsageError{Err: fmt.Errorf("%s: %w", path, err)}
	}
	return list, nil
}

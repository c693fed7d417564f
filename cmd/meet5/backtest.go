package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/meet5/backend/fraud/backtest"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/run"
)

// These are the command; the package of the same name does the work.
type backtestRules struct {
	Files      []string         `arg:"" name:"file" help:"Files of rules, as YAML." type:"existingfile"`
	Since      time.Time        `help:"Count events and hits from this time on (RFC 3339)."`
	Until      time.Time        `help:"Count events and hits before this time (RFC 3339)."`
	Against    backtest.Against `help:"What precision and recall are measured against: moderators' decisions, imported labels, both (a decision where there is one), or none." enum:"decisions,imported,both,none" default:"both"`
	Curve      bool             `help:"Try each rule with other thresholds too; takes up to four more passes over the log a rule."`
	Thresholds []int            `help:"The thresholds of the curve, ascending, with commas between them; chosen for each rule if there are none." placeholder:"N,…"`
	Sample     int              `help:"How many flags, and users of each kind, to list of each rule with --json." default:"20"`
	Seed       uint64           `help:"Lists other users."`
	JSON       bool             `name:"json" help:"Write the result as JSON." xor:"format"`
	Markdown   bool             `help:"Write the result as a Markdown table." xor:"format"`
	place
}

// Run is called by kong.
func (c *backtestRules) Run(ctx context.Context, con *console) (err error) {
	if err := c.check(); err != nil {
		return &run.UsageError{Err: err}
	}
	var list []rule.Rule
	for _, file := range c.Files {
		some, err := readRules(file)
		if err != nil {
			return err
		}
		for _, r := range some {
			if slices.ContainsFunc(list, func(other rule.Rule) bool { return other.ID == r.ID }) {
				return &run.UsageError{Err: fmt.Errorf("%s: another rule has the id %s; try one at a time", file, r.ID)}
			}
			list = append(list, r)
		}
	}
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	record, err := backtest.ReadRecord(ctx, b.Logs.Fraud, c.Since, c.Until)
	if err != nil {
		return err
	}
	bar, done := progress{}, uint64(0)
	o := backtest.Options{
		Since: c.Since, Until: c.Until, Record: record, Cuts: b.Logs.Fraud, Against: c.Against, Labels: b.Labels.All(ctx),
		Curve: c.Curve || len(c.Thresholds) > 0, Thresholds: c.Thresholds, Sample: c.Sample, Seed: c.Seed,
		Progress: func(p backtest.Progress) {
			if done == 0 {
				bar = con.progress(int(p.Total), "events") //nolint:gosec // a count of events
			}
			bar.add(int(p.Events - done)) //nolint:gosec // a count of events
			done = p.Events
		},
	}
	if c.Sample == 0 {
		o.Sample = -1 // none, not the default
	}
	report, err := backtest.Run(ctx, b.Logs.Activity, list, o)
	bar.done()
	if err != nil {
		return err
	}
	return c.write(con.out, report)
}

func (c *backtestRules) check() error {
	if !c.Since.IsZero() && !c.Until.IsZero() && !c.Since.Before(c.Until) {
		return errors.New("--until: must be later than --since")
	}
	if c.Sample < 0 || c.Sample > backtest.MaxSample {
		return fmt.Errorf("--sample: must be from 0 to %d", backtest.MaxSample)
	}
	if err := backtest.CheckThresholds(c.Thresholds); err != nil {
		return fmt.Errorf("--thresholds: %w", err)
	}
	return nil
}

func (c *backtestRules) write(w io.Writer, r backtest.Report) error {
	switch {
	case c.JSON:
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(r)
	case c.Markdown:
		return r.WriteMarkdown(w)
	}
	return r.WriteTable(w)
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

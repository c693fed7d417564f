package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meet5/backend/cmd/chaos"
	"github.com/meet5/backend/service/run"
)

type chaosRun struct {
	Faults   []string      `arg:"" optional:"" name:"fault" help:"Faults to try, by name; all of them if none is named."`
	Seeds    int           `help:"How many runs each fault has." default:"1"`
	Seed     uint64        `help:"Seed of the first run; the load, the moment and the victims follow from it." default:"1"`
	Load     time.Duration `help:"How long clients are at it in a run, besides the fault itself." default:"20s"`
	Outage   time.Duration `help:"How long the broker is gone in broker-outage." default:"30s"`
	Pause    time.Duration `help:"How long something stands still, is slow or half-open." default:"10s"`
	Bin      string        `help:"Folder of the services' programs, as make build fills it." default:"bin" placeholder:"DIR"`
	Services string        `help:"Script that starts real services, to be ill-treated." default:"deploy/testing/services" placeholder:"PATH"`
	JSON     bool          `name:"json" help:"Write the results as JSON."`
	List     bool          `help:"List the faults, and do nothing."`
}

// Run is called by kong.
func (c *chaosRun) Run(ctx context.Context, con *console) error {
	if c.List {
		return c.list(con)
	}
	o := chaos.Options{
		Faults: c.Faults, Seeds: c.Seeds, Seed: c.Seed, Load: c.Load, Outage: c.Outage, Pause: c.Pause, Bin: c.Bin, Script: c.Services,
	}
	if err := o.Validate(); err != nil {
		return &run.UsageError{Err: err}
	}
	shown := isTerminal(con.err)
	const clear = "\r\x1b[K" // the line that a terminal shows progress in
	if shown {
		o.Progress = func(text string) { fmt.Fprint(con.err, clear, text) }
	}
	report, err := chaos.Run(ctx, o, func(r chaos.Result) {
		if shown {
			fmt.Fprint(con.err, clear)
		}
		con.say("%v", r)
	})
	if shown {
		fmt.Fprint(con.err, clear)
	}
	if len(report.Results) > 0 {
		err = errors.Join(err, c.print(con, report))
	}
	if err != nil {
		return err
	}
	if n := report.Violations(); n > 0 {
		return fmt.Errorf("%d promises were broken", n)
	}
	con.say("%d runs: every promise held", len(report.Results))
	return nil
}

func (c *chaosRun) list(con *console) error {
	if c.JSON {
		return c.encode(con, chaos.Faults())
	}
	for _, f := range chaos.Faults() {
		fmt.Fprintf(con.out, "%-22s %s\n", f.Name, f.What)
	}
	return nil
}

func (c *chaosRun) print(con *console, r chaos.Report) error {
	if c.JSON {
		return c.encode(con, r)
	}
	return r.WriteTable(con.out)
}

func (c *chaosRun) encode(con *console, v any) error {
	e := json.NewEncoder(con.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

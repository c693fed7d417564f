package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/service/run"
)

type projectionsTools struct {
	Status  projectionsStatus  `cmd:"" help:"Tell how every subscription that outlives its process stands, and which versions of the read models there are."`
	Rebuild projectionsRebuild `cmd:"" help:"Fold the log into a new version of the read models, while the old one serves, and have the new one serve."`
	Switch  projectionsSwitch  `cmd:"" help:"Have a version that was kept serve again."`
	Drop    projectionsDrop    `cmd:"" help:"Delete a version that does not serve."`
}

// inMemory is said where there are no versions.
const inMemory = "on files, read models live in memory: the process folds them from the log at each start"

// versionsOf are the versions of the read models; there are none on files.
func versionsOf(b *backend.Tools) (*versions.Registry, error) {
	if b.Versions == nil {
		return nil, &run.UsageError{Err: fmt.Errorf("--mongo: is needed, since versions are kept on MongoDB; %s", inMemory)}
	}
	return b.Versions, nil
}

func (c *console) json(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

type projectionsRebuild struct {
	Name string `arg:"" help:"What to rebuild: views (visitors, visits, likes, matches and numbers)." enum:"views"`
	JSON bool   `name:"json" help:"Write what was done as JSON."`
	place
}

// rebuilt is what a rebuild or a switch has done.
type rebuilt struct {
	Name    string  `json:"name"`
	From    int     `json:"from,omitempty"` // versions; none on files
	To      int     `json:"to,omitempty"`
	Events  uint64  `json:"events"`
	Seconds float64 `json:"seconds"`
	Rate    float64 `json:"rate"` // events a second
	Parked  int     `json:"parked"`
}

func rebuiltOf(events uint64, took time.Duration) rebuilt {
	r := rebuilt{Name: "views", Events: events, Seconds: took.Seconds()}
	if r.Seconds > 0 {
		r.Rate = float64(events) / r.Seconds
	}
	return r
}

func (r rebuilt) String() string {
	return fmt.Sprintf("%d events in %.1f s, %.0f events/s", r.Events, r.Seconds, r.Rate)
}

// Run is called by kong.
func (c *projectionsRebuild) Run(ctx context.Context, con *console) (err error) {
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	if b.Versions == nil {
		return c.inMemory(ctx, con, b)
	}
	return con.bring(c.JSON, func(report func(versions.Progress)) (versions.Result, error) {
		return b.Versions.Rebuild(ctx, b.Logs.Activity, report)
	})
}

// inMemory folds the log as the process does at its start, for its time.
func (c *projectionsRebuild) inMemory(ctx context.Context, con *console, b *backend.Tools) error {
	start := time.Now()
	if _, err := b.CurrentViews(ctx); err != nil {
		return err
	}
	took := time.Since(start)
	events, err := length(ctx, b.Logs.Activity)
	if err != nil {
		return err
	}
	r := rebuiltOf(uint64(events), took) //nolint:gosec // a count
	con.say("%s; this was a trial, there is nothing to keep", inMemory)
	if c.JSON {
		return con.json(r)
	}
	fmt.Fprintf(con.out, "views: folded %v\n", r)
	return nil
}

// bring shows the progress of a rebuild or a switch, and what it has done.
func (c *console) bring(asJSON bool, do func(report func(versions.Progress)) (versions.Result, error)) error {
	bar := c.progress(unknown, "events")
	failure := ""
	result, err := do(func(p versions.Progress) {
		if p.Failure != failure && p.Failure != "" {
			bar.clear()
			c.say("trying again: %s", p.Failure)
		}
		failure = p.Failure
		bar.reach(int(p.Done), int(p.Total)) //nolint:gosec // counts of events
	})
	bar.done()
	if err != nil {
		if !errors.Is(err, versions.ErrBusy) && !errors.Is(err, versions.ErrRefused) {
			c.say("what was done is kept: run the same again to go on with it")
		}
		return err
	}
	r := rebuiltOf(result.Events, result.Took)
	r.From, r.To, r.Parked = result.From, result.To, result.Parked
	if r.Parked > 0 {
		c.say("%d events are parked in version %d", r.Parked, r.To)
	}
	if asJSON {
		return c.json(r)
	}
	fmt.Fprintf(c.out, "views: %v; version %d serves, version %d is kept until it is dropped (meet5 projections drop %d)\n", r, r.To, r.From, r.From)
	return nil
}

type projectionsSwitch struct {
	Version int  `arg:"" help:"The version that is to serve."`
	JSON    bool `name:"json" help:"Write what was done as JSON."`
	place
}

// Run is called by kong.
func (c *projectionsSwitch) Run(ctx context.Context, con *console) (err error) {
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	v, err := versionsOf(b)
	if err != nil {
		return err
	}
	return con.bring(c.JSON, func(report func(versions.Progress)) (versions.Result, error) {
		return v.Switch(ctx, b.Logs.Activity, c.Version, report)
	})
}

type projectionsDrop struct {
	Version int `arg:"" help:"The version that is to go."`
	place
}

// Run is called by kong.
func (c *projectionsDrop) Run(ctx context.Context, con *console) (err error) {
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	v, err := versionsOf(b)
	if err != nil {
		return err
	}
	if err := v.Drop(ctx, c.Version); err != nil {
		return err
	}
	fmt.Fprintf(con.out, "version %d is dropped\n", c.Version)
	return nil
}

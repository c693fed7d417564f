package main

import (
	"context"
	"errors"
	"time"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/ingest"
	"github.com/meet5/backend/cmd/simulation"
	"github.com/meet5/backend/service/run"
)

type simulate struct {
	Members int       `help:"How many members." default:"500"`
	Days    int       `help:"Over how many days." default:"7"`
	Cheats  int       `help:"Cheats of each kind per 100 members; at least one of each kind, 0 for none at all." default:"1"`
	Seed    uint64    `help:"The same seed and --until give the same members and acts." default:"1"`
	Until   time.Time `help:"When the last act happens (RFC 3339); today's midnight, UTC, if not given."`
	place
}

// Run is called by kong.
func (c *simulate) Run(ctx context.Context, con *console) (err error) {
	if c.Until.IsZero() {
		c.Until = time.Now().UTC().Truncate(24 * time.Hour)
	}
	cfg := simulation.Config{Seed: c.Seed, Members: c.Members, Days: c.Days, CheatsPer: c.Cheats, Until: c.Until.UTC()}
	if err := cfg.Validate(); err != nil {
		return &run.UsageError{Err: err}
	}
	world, err := simulation.New(cfg)
	if err != nil {
		return err
	}
	b, err := backend.OpenTools(ctx, c.where(), con.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	start := time.Now()
	bar := con.progress(len(world.Acts), "acts")
	n, err := ingest.World(ctx, b.User, b.Logs.Activity, b.Logs.User, world, func() { bar.add(1) })
	bar.done()
	if err != nil {
		return err
	}
	con.say("%d members; %d activities written, %d in the log already; %.1f s", len(world.Members), n.Written, n.Known, time.Since(start).Seconds())
	for _, behaviour := range simulation.Cheats() {
		for _, m := range world.Members {
			if m.Behaviour == behaviour {
				con.say("%-8s %s  %s", behaviour, m.ID, m.Handle)
			}
		}
	}
	return nil
}

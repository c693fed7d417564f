package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/migrations"
	"github.com/meet5/backend/service/run"
)

type migrate struct {
	Plan   migratePlan   `cmd:"" help:"List the steps that are still to run."`
	Up     migrateUp     `cmd:"" help:"Run them."`
	Status migrateStatus `cmd:"" help:"List all steps and when they ran."`
}

// runner reaches the databases; done lets go of them.
func (p place) runner(ctx context.Context, con *console) (r *migrations.Runner, done func() error, err error) {
	if p.Mongo == "" {
		return nil, nil, &run.UsageError{Err: errors.New("--mongo: migrations are for MongoDB; the embedded stores make themselves")}
	}
	dbs, client, err := backend.Connect(ctx, p.where())
	if err != nil {
		return nil, nil, err
	}
	if r, err = backend.Migrations(dbs, con.logger); err != nil {
		return nil, nil, errors.Join(err, client.Disconnect(ctx))
	}
	return r, func() error { return client.Disconnect(context.WithoutCancel(ctx)) }, nil
}

type migratePlan struct{ databases }

// databases are where the migrations run: no broker is needed.
type databases struct {
	Mongo  string `help:"MongoDB to migrate." placeholder:"URI" env:"MEET5_MONGO" required:""`
	Prefix string `help:"What the databases' names begin with." default:"meet5" env:"MEET5_PREFIX"`
}

func (d databases) place() place { return place{Mongo: d.Mongo, Prefix: d.Prefix} }

// Run is called by kong.
func (c *migratePlan) Run(ctx context.Context, con *console) error {
	r, done, err := c.place().runner(ctx, con)
	if err != nil {
		return err
	}
	steps, err := r.Plan(ctx)
	for _, s := range steps {
		fmt.Fprintln(con.out, s)
	}
	if err == nil && len(steps) == 0 {
		con.say("nothing to do")
	}
	return errors.Join(err, done())
}

type migrateUp struct{ databases }

// Run is called by kong.
func (c *migrateUp) Run(ctx context.Context, con *console) error {
	r, done, err := c.place().runner(ctx, con)
	if err != nil {
		return err
	}
	migrating, cancel := context.WithTimeout(ctx, backend.MigrationTimeout)
	defer cancel()
	ran, err := r.Up(migrating)
	for _, s := range ran {
		fmt.Fprintln(con.out, s)
	}
	if err == nil && len(ran) == 0 {
		con.say("nothing to do")
	}
	return errors.Join(err, done())
}

type migrateStatus struct{ databases }

// Run is called by kong.
func (c *migrateStatus) Run(ctx context.Context, con *console) error {
	r, done, err := c.place().runner(ctx, con)
	if err != nil {
		return err
	}
	all, err := r.Status(ctx)
	w := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	for _, s := range all {
		when := "to run"
		if !s.AppliedAt.IsZero() {
			when = s.AppliedAt.UTC().Format(time.RFC3339)
		}
		if s.Unknown {
			s.Name += " (of a newer build)"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\n", s.Version, when, s.Name)
	}
	return errors.Join(err, w.Flush(), done())
}

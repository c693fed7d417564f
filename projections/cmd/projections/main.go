// Command projections is the projections service on MongoDB and RabbitMQ.
package main

import (
	"context"
	"os"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/projections"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/node"
	"github.com/meet5/backend/service/run"
)

type flags struct {
	node.Flags
	node.Keys
}

func main() { run.Main("projections", realMain) }

func realMain(ctx context.Context) error {
	var f flags
	if err := config.Parse(&f, "projections", "The projections service: who visited me, who likes me, matches.", os.Args[1:], os.Stdout); err != nil {
		return err
	}
	n, err := node.New("projections", f.Flags)
	if err != nil {
		return err
	}
	db := n.Database("projections")
	read := versions.Open(db, mongoledger.Open(db), versions.Options{Logger: n.Logger})
	n.Await("the database of read models", read.Check)
	activities := n.Reader(events.ActivityLog, events.ActivityPartitions)
	s, err := projections.New(projections.Config{}, projections.Deps{
		Activity: activities,
		Logs: []log.Reader{
			activities, n.Reader(events.FraudLog, events.FraudPartitions), n.Reader(events.UserLog, events.UserPartitions),
		},
		Versions: read, Follow: n.Follow, Verifier: f.Verifier(), Logger: n.Logger, Metrics: n.Metrics,
	})
	if err != nil {
		return err
	}
	return n.Run(ctx, s)
}

// Command activity is the activity service on MongoDB and RabbitMQ.
package main

import (
	"context"
	"net"
	"os"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/node"
	"github.com/meet5/backend/service/run"
)

type flags struct {
	node.Flags
	node.Keys
}

func main() { run.Main("activity", realMain) }

func realMain(ctx context.Context) error {
	var f flags
	if err := config.Parse(&f, "activity", "The activity service: accepts visits and likes.", os.Args[1:], os.Stdout); err != nil {
		return err
	}
	return assemble(ctx, f, nil)
}

// assemble runs the service until ctx ends. onListen, which may be nil, is told
// the address.
func assemble(ctx context.Context, f flags, onListen func(net.Addr)) error {
	n, err := node.New("activity", f.Flags)
	if err != nil {
		return err
	}
	n.OnListen = onListen
	ledger := mongoledger.Open(n.Database("activity"))
	n.Await("the activity service's ledger", ledger.Check)
	s, err := activity.New(activity.Config{}, activity.Deps{
		Log: n.Log(events.ActivityLog, events.ActivityPartitions), Users: n.Reader(events.UserLog, events.UserPartitions),
		Ledger: ledger, Follow: n.Follow, Verifier: f.Verifier(), Logger: n.Logger, Metrics: n.Metrics,
	})
	if err != nil {
		return err
	}
	return n.Run(ctx, s)
}

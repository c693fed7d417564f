// Command fraud is the fraud service on MongoDB and RabbitMQ.
package main

import (
	"cmp"
	"context"
	"net"
	"os"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/fraud/side/mongoside"
	"github.com/meet5/backend/fraud/side/snapshotdir"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/node"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/vault/mongovault"
)

type flags struct {
	node.Flags
	node.Keys
	MarkQuota uint16 `help:"How many users rules may mark as fraudulent on a day; beyond it they only flag. 0: none." default:"1000" env:"MEET5_MARK_QUOTA"`
	Snapshots string `help:"Folder for snapshots of what this instance has counted, so that a start need not read all of history; a cache. None are taken if empty." placeholder:"DIR" env:"MEET5_SNAPSHOTS"`
}

func main() { run.Main("fraud", realMain) }

func realMain(ctx context.Context) error {
	var f flags
	if err := config.Parse(&f, "fraud", "The fraud service: runs rules, and lets moderators decide.", os.Args[1:], os.Stdout); err != nil {
		return err
	}
	return assemble(ctx, f, nil)
}

// assemble runs the service until ctx ends. onListen, which may be nil, is told
// the address.
func assemble(ctx context.Context, f flags, onListen func(net.Addr)) error {
	n, err := node.New("fraud", f.Flags)
	if err != nil {
		return err
	}
	n.OnListen = onListen
	ledger := mongoledger.Open(n.Database("fraud"))
	n.Await("the fraud service's ledger", ledger.Check)
	var snapshots fraud.Snapshots
	if f.Snapshots != "" {
		snapshots = snapshotdir.Open(f.Snapshots)
	}
	s, err := fraud.New(fraud.Config{MarkQuota: cmp.Or(int(f.MarkQuota), -1)}, fraud.Deps{
		Log: n.Log(events.FraudLog, events.FraudPartitions), Activity: n.Reader(events.ActivityLog, events.ActivityPartitions),
		Users: n.Reader(events.UserLog, events.UserPartitions), Vault: mongovault.Open(n.Database("fraud")),
		Ledger: ledger, Snapshots: snapshots, Labels: mongoside.Open(n.Database("fraud")), Follow: n.Follow, Verifier: f.Verifier(), Logger: n.Logger, Metrics: n.Metrics,
	})
	if err != nil {
		return err
	}
	return n.Run(ctx, s)
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/run"
)

type parked struct {
	List  parkedList  `cmd:"" help:"List the events that subscriptions have put aside."`
	Show  parkedShow  `cmd:"" help:"Show a parked event: why it is parked, and what it says."`
	Retry parkedRetry `cmd:"" help:"Have it handled again, and those of its key that wait behind it."`
	Drop  parkedDrop  `cmd:"" help:"Give it up: it stays in the log and will never be handled."`
}

// findParked looks for a parked event in every service's ledger.
func findParked(ctx context.Context, b *backend.Tools, id string) (subscription.Ledger, subscription.Parked, error) {
	at, sequence, err := subscription.ParseID(id)
	if err != nil {
		return nil, subscription.Parked{}, &run.UsageError{Err: fmt.Errorf("ID: %w; `meet5 parked list` shows them", err)}
	}
	for _, l := range b.Ledgers {
		list, err := l.Parked(ctx, at)
		if err != nil {
			return nil, subscription.Parked{}, err
		}
		for _, p := range list {
			if p.Sequence == sequence {
				return l, p, nil
			}
		}
	}
	return nil, subscription.Parked{}, fmt.Errorf("%s: %w", id, subscription.ErrNotParked)
}

type parkedList struct {
	JSON bool `name:"json" help:"Write the list as JSON."`
	place
}

// parkedLine is a parked event as it is listed.
type parkedLine struct {
	ID      string `json:"id"`
	Service string `json:"service"`
	subscription.Parked
}

// Run is called by kong.
func (c *parkedList) Run(ctx context.Context, con *console) (err error) {
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	lines := []parkedLine{}
	for _, service := range slices.Sorted(maps.Keys(b.Ledgers)) {
		list, err := b.Ledgers[service].Parked(ctx, subscription.Place{})
		if err != nil {
			return err
		}
		for _, p := range list {
			lines = append(lines, parkedLine{p.ID(), service, p})
		}
	}
	if c.JSON {
		return con.json(lines)
	}
	if len(lines) == 0 {
		con.say("nothing is parked")
		return nil
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tKEY\tTYPE\tPARKED\tATTEMPTS\tWHY")
	for _, l := range lines {
		why := cmp.Or(l.Reason, "waits behind another event of its key")
		if l.Order != "" {
			why += " (to be " + map[subscription.Order]string{subscription.Retry: "retried", subscription.Drop: "dropped"}[l.Order] + ")"
		}
		why, _, _ = strings.Cut(why, "\n")
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%d\t%s\n", l.ID, l.Key, l.Type, l.ParkedAt.Format("2006-01-02T15:04:05Z"), l.Attempts, why)
	}
	return t.Flush()
}

type parkedShow struct {
	ID string `arg:"" help:"The event, as in the list."`
	place
}

// Run is called by kong.
func (c *parkedShow) Run(ctx context.Context, con *console) (err error) {
	b, err := c.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	_, p, err := findParked(ctx, b, c.ID)
	if err != nil {
		return err
	}
	shown := struct {
		ID string `json:"id"`
		subscription.Parked
		Content json.RawMessage `json:"content"`
	}{ID: c.ID, Parked: p, Content: json.RawMessage("null")}
	for _, l := range []log.Reader{b.Logs.User, b.Logs.Activity, b.Logs.Fraud} {
		if l.Name() != p.Log {
			continue
		}
		e, err := log.Get(ctx, l, events.Position{Partition: p.Partition, Sequence: p.Sequence})
		switch {
		case errors.Is(err, log.ErrNotFound), errors.Is(err, events.ErrCorrupt):
			con.say("the event cannot be read: %v", err)
		case err != nil:
			return err
		default:
			shown.Content = events.AppendCloudEvent(nil, p.Log, e)
		}
	}
	return con.json(shown)
}

type parkedRetry struct {
	ID string `arg:"" help:"The event, as in the list."`
	place
}

// Run is called by kong.
func (c *parkedRetry) Run(ctx context.Context, con *console) error {
	return c.order(ctx, con, c.ID, subscription.Retry)
}

type parkedDrop struct {
	ID string `arg:"" help:"The event, as in the list."`
	place
}

// Run is called by kong.
func (c *parkedDrop) Run(ctx context.Context, con *console) error {
	return c.order(ctx, con, c.ID, subscription.Drop)
}

// order notes what is to be done. Whoever follows does it.
func (p place) order(ctx context.Context, con *console, id string, o subscription.Order) (err error) {
	b, err := p.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	ledger, event, err := findParked(ctx, b, id)
	if err != nil {
		return err
	}
	if o == subscription.Retry && event.Reason == "" {
		return fmt.Errorf("%s waits behind another event of its key, %s; retry or drop that one, and this one follows", id, event.Key)
	}
	if err := ledger.Order(ctx, event.Place, event.Sequence, o); err != nil {
		return err
	}
	when := "whoever follows does it within about a second; `meet5 parked list` shows what came of it"
	if !p.where().Real() {
		when = "it is done when `meet5 up` runs on this folder"
	}
	con.say("%s: %s is ordered; %s", id, o, when)
	return nil
}

package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/meet5/backend/user"
)

type keys struct {
	List   keysList   `cmd:"" help:"List the keys that access tokens are signed with."`
	Rotate keysRotate `cmd:"" help:"Make the next key, which signs in half an hour. Nobody is signed out."`
}

// keyLine is a signing key as it is listed.
type keyLine struct {
	ID        string    `json:"id"`
	State     string    `json:"state"`
	MadeAt    time.Time `json:"made_at,omitzero"`
	SignsFrom time.Time `json:"signs_from,omitzero"`
	EndsAt    time.Time `json:"ends_at,omitzero"`
}

// onKeys does something with the keys and lists them.
func (p place) onKeys(ctx context.Context, con *console, asJSON bool, do func(context.Context, *user.Service) ([]user.SigningKey, error)) (err error) {
	b, err := p.openToRead(ctx, con)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	list, err := do(ctx, b.User)
	if err != nil {
		return err
	}
	if asJSON {
		lines := make([]keyLine, len(list))
		for i, k := range list {
			lines[i] = keyLine(k)
		}
		return con.json(lines)
	}
	t := tabwriter.NewWriter(con.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "ID\tSTATE\tMADE\tSIGNS FROM\tENDS")
	for _, k := range list {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.State, orDash(k.MadeAt), orDash(k.SignsFrom), orDash(k.EndsAt))
	}
	return t.Flush()
}

func orDash(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}

type keysList struct {
	JSON bool `name:"json" help:"Write the list as JSON."`
	place
}

// Run is called by kong.
func (c *keysList) Run(ctx context.Context, con *console) error {
	return c.onKeys(ctx, con, c.JSON, func(ctx context.Context, s *user.Service) ([]user.SigningKey, error) { return s.Keys(ctx) })
}

type keysRotate struct {
	Compromised bool `help:"The keys are in other hands: the new one signs at once, and the others are destroyed."`
	JSON        bool `name:"json" help:"Write the list as JSON."`
	place
}

// Run is called by kong.
func (c *keysRotate) Run(ctx context.Context, con *console) error {
	return c.onKeys(ctx, con, c.JSON, func(ctx context.Context, s *user.Service) ([]user.SigningKey, error) {
		return s.RotateKeys(ctx, c.Compromised)
	})
}

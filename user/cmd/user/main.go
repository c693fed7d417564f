// Command user is the user service on MongoDB and RabbitMQ.
package main

import (
	"context"
	"net/netip"
	"os"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription/mongoledger"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/node"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/vault/mongovault"
	"github.com/meet5/backend/user"
)

type flags struct {
	node.Flags
	AdminEmail    string `help:"E-mail of the first admin, on a first start." env:"MEET5_ADMIN_EMAIL"`
	AdminPassword string `help:"Password of the first admin, on a first start." env:"MEET5_ADMIN_PASSWORD"`

	KeyLife      time.Duration  `help:"How long a key signs access tokens until the next one does." default:"720h" env:"MEET5_KEY_LIFE"`
	OIDCIssuer   string         `name:"oidc-issuer" help:"URL of an outside OpenID provider whose ID tokens begin sessions, too." placeholder:"URL" env:"MEET5_OIDC_ISSUER"`
	OIDCClient   string         `name:"oidc-client" help:"The client that those ID tokens are for." placeholder:"ID" env:"MEET5_OIDC_CLIENT"`
	Registration string         `help:"off: nobody registers with a password; who is new comes by the outside provider." enum:"on,off" default:"on" env:"MEET5_REGISTRATION"`
	RateLimits   string         `help:"off: wrong passwords are not slowed down, for tests and load." enum:"on,off" default:"on" env:"MEET5_RATE_LIMITS"`
	Gateways     []netip.Prefix `help:"Networks of the gateways, whose X-Forwarded-For is believed." default:"127.0.0.0/8,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,::1/128,fc00::/7" placeholder:"CIDR,…" env:"MEET5_GATEWAYS"`
	Issuer       string         `help:"URL of the gateway for those outside: the iss of tokens, with OpenID discovery. Tell the other services, too." placeholder:"URL" env:"MEET5_ISSUER"`
}

func main() { run.Main("user", realMain) }

func realMain(ctx context.Context) error {
	var f flags
	if err := config.Parse(&f, "user", "The user service: accounts, sessions and keys.", os.Args[1:], os.Stdout); err != nil {
		return err
	}
	n, err := node.New("user", f.Flags)
	if err != nil {
		return err
	}
	db := n.Database("user")
	n.Await("the user service's ledger", mongoledger.Open(db).Check)
	s, err := user.New(user.Config{AdminEmail: f.AdminEmail, AdminPassword: f.AdminPassword, KeyLife: f.KeyLife, Issuer: f.Issuer, Gateways: f.Gateways, UnlimitedGuesses: f.RateLimits == "off",
		OutsideIssuer: f.OIDCIssuer, OutsideClient: f.OIDCClient, NoRegistration: f.Registration == "off"}, user.Deps{
		Log: n.Log(events.UserLog, events.UserPartitions), Fraud: n.Reader(events.FraudLog, events.FraudPartitions),
		Activity: n.Reader(events.ActivityLog, events.ActivityPartitions),
		Vault:    mongovault.Open(db), Follow: n.Follow, Logger: n.Logger, Metrics: n.Metrics,
	})
	if err != nil {
		return &run.UsageError{Err: err}
	}
	return n.Run(ctx, s)
}

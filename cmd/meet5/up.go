package main

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/service/run"
)

type up struct {
	Listen         string         `help:"Address to serve on." default:":8080" env:"MEET5_LISTEN"`
	Demo           bool           `help:"Fill an empty folder with some hundred members, cheats among them, and lively traffic." env:"MEET5_DEMO"`
	AdminEmail     string         `help:"E-mail of the first admin, made at the first start." env:"MEET5_ADMIN_EMAIL"`
	AdminPassword  string         `help:"Their password." env:"MEET5_ADMIN_PASSWORD"`
	RateLimits     string         `help:"off: no rate limits, for tests and load." enum:"on,off" default:"on" env:"MEET5_RATE_LIMITS"`
	LimitsRedis    string         `help:"Valkey or Redis that rates are counted in together with other instances." placeholder:"URL" env:"MEET5_LIMITS_REDIS"`
	TrustedProxies []netip.Prefix `help:"Networks of load balancers whose X-Forwarded-For is believed, with commas between them." placeholder:"CIDR,…" env:"MEET5_TRUSTED_PROXIES"`
	CORSOrigins    []string       `name:"cors-origins" help:"Origins whose pages may use the API, as in https://app.example.org, with commas between them." placeholder:"ORIGIN,…" env:"MEET5_CORS_ORIGINS"`
	TLSCert        string         `name:"tls-cert" help:"PEM file of the certificate and its chain; with it and its key, TLS is spoken. Read again when it changes." placeholder:"FILE" env:"MEET5_TLS_CERT"`
	TLSKey         string         `name:"tls-key" help:"PEM file of the certificate's key." placeholder:"FILE" env:"MEET5_TLS_KEY"`
	MarkQuota      uint16         `help:"How many users rules may mark as fraudulent on a day; beyond it they only flag. 0: none." default:"1000" env:"MEET5_MARK_QUOTA"`
	KeyLife        time.Duration  `help:"How long a key signs access tokens until the next one does." default:"720h" env:"MEET5_KEY_LIFE"`
	Issuer         string         `help:"URL under which this is reached from outside: the iss of tokens, with OpenID discovery." placeholder:"URL" env:"MEET5_ISSUER"`
	OIDCIssuer     string         `name:"oidc-issuer" help:"URL of an outside OpenID provider whose ID tokens begin sessions, too." placeholder:"URL" env:"MEET5_OIDC_ISSUER"`
	OIDCClient     string         `name:"oidc-client" help:"The client that those ID tokens are for." placeholder:"ID" env:"MEET5_OIDC_CLIENT"`
	Registration   string         `help:"off: nobody registers with a password; who is new comes by the outside provider." enum:"on,off" default:"on" env:"MEET5_REGISTRATION"`
	Snapshots      string         `help:"Folder for snapshots of what rules have counted, so that a start need not read all of history; a cache. DIR/snapshots of --data if not given; none with --mongo." placeholder:"DIR" env:"MEET5_SNAPSHOTS"`
	place
}

// Run is called by kong.
func (c *up) Run(ctx context.Context, con *console) (err error) {
	if c.Demo {
		c.demoDefaults()
	}
	certificate, err := run.LoadCertificate(c.TLSCert, c.TLSKey, con.logger)
	if err != nil {
		return err
	}
	if certificate != nil && c.Demo {
		return &run.UsageError{Err: errors.New("--demo does not go with --tls-cert: its members speak no TLS")}
	}
	where := c.where()
	where.Snapshots = c.Snapshots
	b, err := backend.New(ctx, backend.Config{
		Where: where, AdminEmail: c.AdminEmail, AdminPassword: c.AdminPassword,
		RateLimits: c.RateLimits == "on", LimitsURL: c.LimitsRedis, TrustedProxies: c.TrustedProxies, Origins: c.CORSOrigins,
		Certificate: certificate, MarkQuota: cmp.Or(int(c.MarkQuota), -1), KeyLife: c.KeyLife, Issuer: c.Issuer,
		OutsideIssuer: c.OIDCIssuer, OutsideClient: c.OIDCClient, NoRegistration: c.Registration == "off",
	}, con.logger)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	listener, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return err
	}
	url := address(listener.Addr().String())
	if certificate != nil {
		url = "https" + strings.TrimPrefix(url, "http")
	}
	return run.Group(ctx,
		func(ctx context.Context) error { return b.Run(ctx, listener) },
		func(ctx context.Context) error {
			if err := c.waitReady(ctx, con, b, url); err != nil {
				return ignoreEnd(ctx, err)
			}
			con.say("serving on %s (documentation: %s/docs)", url, url)
			if !c.Demo {
				<-ctx.Done()
				return nil
			}
			return ignoreEnd(ctx, newDemo(b, url, c.AdminEmail, c.AdminPassword, con).run(ctx))
		},
	)
}

// tellAfter is how long to wait for the services before saying what is missing.
const tellAfter = 15 * time.Second

// waitReady returns once all services have caught up. If that takes long, it says
// what is missing: a harmed partition never catches up, and the rest serves.
func (c *up) waitReady(ctx context.Context, con *console, b *backend.Backend, url string) error {
	patient, cancel := context.WithTimeout(ctx, tellAfter)
	err := b.WaitReady(patient)
	cancel()
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	con.say("serving on %s, but not everything has caught up with the logs yet:", url)
	behind := b.Behind()
	for _, line := range behind[:min(len(behind), mostBehind)] {
		con.say("  %s", line)
	}
	if more := len(behind) - mostBehind; more > 0 {
		con.say("  and %d more, see /readyz", more)
	}
	return b.WaitReady(ctx)
}

// mostBehind is how many of them are named.
const mostBehind = 8

// ignoreEnd is nil if ctx has ended, since then it is why.
func ignoreEnd(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// address is the URL of a listener for somebody on the same machine.
func address(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return "http://" + listen
	}
	if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
		host = "localhost"
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return "http://" + host + ":" + port
}

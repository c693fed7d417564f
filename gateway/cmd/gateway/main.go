// Command gateway is the gateway before services that run elsewhere.
package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
)

// keysTimeout bounds one attempt to read the keys of tokens.
const keysTimeout = 5 * time.Second

type flags struct {
	Listen         string         `help:"Address to serve on." default:":8080" env:"MEET5_LISTEN"`
	UserURL        urls           `help:"Instances of the user service, with commas between them: http://host:port, dns+http://host:port (its addresses) or srv+http://name (its SRV records)." placeholder:"URL,…" env:"MEET5_USER_URL"`
	ActivityURL    urls           `help:"Instances of the activity service." placeholder:"URL,…" env:"MEET5_ACTIVITY_URL"`
	FraudURL       urls           `help:"Instances of the fraud service." placeholder:"URL,…" env:"MEET5_FRAUD_URL"`
	ProjectionsURL urls           `help:"Instances of the projections service." placeholder:"URL,…" env:"MEET5_PROJECTIONS_URL"`
	JWKSURL        []string       `name:"jwks-url" help:"Where the keys of tokens are published; by default the user services' /.well-known/jwks.json." placeholder:"URL,…" env:"MEET5_JWKS_URL"`
	Issuer         string         `help:"The iss of tokens, as the user service was told." placeholder:"URL" env:"MEET5_ISSUER"`
	RateLimits     string         `help:"off: no rate limits, for tests and load." enum:"on,off" default:"on" env:"MEET5_RATE_LIMITS"`
	LimitsRedis    string         `help:"Valkey or Redis that rates are counted in together with other gateways; by default each counts by itself." placeholder:"URL" env:"MEET5_LIMITS_REDIS"`
	TrustedProxies []netip.Prefix `help:"Networks of load balancers whose X-Forwarded-For is believed, with commas between them." placeholder:"CIDR,…" env:"MEET5_TRUSTED_PROXIES"`
	DNSServer      string         `name:"dns-server" help:"DNS server to ask in place of the system's." placeholder:"HOST:PORT" env:"MEET5_DNS_SERVER"`
	CORSOrigins    []string       `name:"cors-origins" help:"Origins whose pages may use this gateway, as in https://app.example.org, with commas between them." placeholder:"ORIGIN,…" env:"MEET5_CORS_ORIGINS"`
	TLSCert        string         `name:"tls-cert" help:"PEM file of the certificate and its chain; with it and its key, TLS is spoken. Read again when it changes." placeholder:"FILE" env:"MEET5_TLS_CERT"`
	TLSKey         string         `name:"tls-key" help:"PEM file of the certificate's key." placeholder:"FILE" env:"MEET5_TLS_KEY"`
	config.Logging
}

// urls is the instances of a service.
type urls []*url.URL

// UnmarshalText implements encoding.TextUnmarshaler.
func (u *urls) UnmarshalText(text []byte) error {
	*u = nil
	for one := range strings.SplitSeq(string(text), ",") {
		parsed, err := gateway.ParseUpstream(one)
		if err != nil {
			return err
		}
		*u = append(*u, parsed)
	}
	return nil
}

// Validate implements what config.Parse calls.
func (f *flags) Validate() error {
	var faults []error
	for _, needed := range []struct {
		urls           urls
		flag, variable string
	}{
		{f.UserURL, "user-url", "MEET5_USER_URL"},
		{f.ActivityURL, "activity-url", "MEET5_ACTIVITY_URL"},
		{f.FraudURL, "fraud-url", "MEET5_FRAUD_URL"},
		{f.ProjectionsURL, "projections-url", "MEET5_PROJECTIONS_URL"},
	} {
		if len(needed.urls) == 0 {
			faults = append(faults, config.Required(needed.flag, needed.variable))
		}
	}
	if f.DNSServer != "" {
		if _, _, err := net.SplitHostPort(f.DNSServer); err != nil {
			faults = append(faults, fmt.Errorf("--dns-server: %w", err))
		}
	}
	return errors.Join(faults...)
}

func main() { run.Main("gateway", realMain) }

func realMain(ctx context.Context) error {
	var f flags
	if err := config.Parse(&f, "gateway", "The one door to the backend.", os.Args[1:], os.Stdout); err != nil {
		return err
	}
	return assemble(ctx, f, nil)
}

// assemble runs the gateway until ctx ends. onListen, which may be nil, is told the
// address.
func assemble(ctx context.Context, f flags, onListen func(net.Addr)) error {
	logger := f.Logger(os.Stderr, "gateway")
	certificate, err := run.LoadCertificate(f.TLSCert, f.TLSKey, logger)
	if err != nil {
		return err
	}
	o := gateway.RemoteOptions{Logger: logger}
	if f.DNSServer != "" {
		o.Resolver = gateway.ResolverAt(f.DNSServer)
	}
	streams := o
	streams.Streams = true
	byActor := o
	byActor.ByActor = true
	up := gateway.Upstreams{
		Activity:    gateway.Remote(f.ActivityURL, byActor),
		Fraud:       gateway.Remote(f.FraudURL, o),
		Projections: gateway.Remote(f.ProjectionsURL, o),
		Streams:     gateway.Remote(f.ProjectionsURL, streams),
	}
	user := gateway.Remote(f.UserURL, o)
	up.User = user
	client := &http.Client{Timeout: keysTimeout}
	if len(f.JWKSURL) == 0 {
		client.Transport = user
		f.JWKSURL = []string{"http://user/.well-known/jwks.json"}
	}
	keys := token.NewRemoteKeySet(f.JWKSURL, client, time.Now)
	g, err := gateway.New(gateway.Config{RateLimits: f.RateLimits == "on", LimitsURL: f.LimitsRedis, TrustedProxies: f.TrustedProxies, Origins: f.CORSOrigins}, gateway.Deps{
		Verifier:  token.NewVerifier(keys, time.Now, f.Issuer),
		Upstreams: up,
		Logger:    logger,
		Metrics:   metrics.NewRegistry(),
	})
	if err != nil {
		return err
	}
	return run.Group(ctx, g.Run, func(ctx context.Context) error {
		return run.HTTP(ctx, run.Server{Addr: f.Listen, Handler: g.Handler(), Certificate: certificate, Logger: logger, OnListen: onListen})
	})
}

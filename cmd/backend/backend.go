// Package backend puts the services together: the one place that knows them all.
//
//	gateway ─┬─ user ─────── user log      follows fraud
//	         ├─ activity ─── activity log  follows user
//	         ├─ fraud ────── fraud log     follows activity, user
//	         └─ projections                follows activity
//
// The two ways to run differ in the stores alone (see Open): files and memory, or
// MongoDB and RabbitMQ. Everything above them is the same.
package backend

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud"
	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/projections"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/operate"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/user"
)

// Config of the whole. Where is needed; the rest is fit for use at its zero
// value, with rate limits off.
type Config struct {
	Where                     Where
	AdminEmail, AdminPassword string
	RateLimits                bool
	// KeyLife and Issuer are user.Config's.
	KeyLife time.Duration
	Issuer  string
	// So are these.
	OutsideIssuer, OutsideClient string
	NoRegistration               bool
	// LimitsURL, TrustedProxies and Origins are gateway.Config's.
	LimitsURL      string
	TrustedProxies []netip.Prefix
	Origins        []string
	// Certificate, if set, has the gateway speak TLS.
	Certificate *run.Certificate
	// MarkQuota is fraud.Config's.
	MarkQuota int
	// Clock is time.Now if nil. Recorded times, tokens and limits go by it.
	Clock func() time.Time
}

// Backend is everything in one process.
type Backend struct {
	*Stores
	Logs        Logs
	User        *user.Service
	Activity    *activity.Service
	Fraud       *fraud.Service
	Projections *projections.Service
	Gateway     *gateway.Gateway

	feed        *bus.Feed
	certificate *run.Certificate
}

// New opens the stores and puts the services together. Nothing runs before Run;
// the caller closes it.
func New(ctx context.Context, cfg Config, logger *slog.Logger) (*Backend, error) {
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	stores, err := Open(ctx, cfg.Where, logger)
	if err != nil {
		return nil, err
	}
	b := &Backend{Stores: stores, certificate: cfg.Certificate, feed: bus.NewFeed(stores.Publisher, bus.FeedOptions{Logger: logger})}
	options := log.Options{Clock: cfg.Clock, Committed: b.feed.Offer}
	if cfg.Where.Real() {
		options.Linger = log.DefaultLinger // a file has its commits share a sync anyway
	}
	b.Logs = Logs{User: log.New(stores.User, options), Activity: log.New(stores.Activity, options), Fraud: log.New(stores.Fraud, options)}
	if err := b.assemble(cfg, logger); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

func (b *Backend) assemble(cfg Config, logger *slog.Logger) (err error) {
	registry := metrics.NewRegistry()
	if err := (operate.Bus{Feed: b.feed, Unrouted: b.Unrouted, Rejected: b.Rejected}).Register(registry); err != nil {
		return err
	}
	of := func(component string) *slog.Logger { return logger.With("component", component) }
	if b.User, err = user.New(user.Config{
		AdminEmail: cfg.AdminEmail, AdminPassword: cfg.AdminPassword, KeyLife: cfg.KeyLife, Issuer: cfg.Issuer,
		UnlimitedGuesses: !cfg.RateLimits,
		OutsideIssuer:    cfg.OutsideIssuer, OutsideClient: cfg.OutsideClient, NoRegistration: cfg.NoRegistration,
	}, user.Deps{
		Log: b.Logs.User, Fraud: b.Logs.Fraud, Activity: b.Logs.Activity, Vault: b.Vault, Follow: b.Follow,
		Logger: of("user"), Clock: cfg.Clock, Metrics: registry,
	}); err != nil {
		return fmt.Errorf("user service: %w", err)
	}
	verifier := token.NewVerifier(b.User.KeySet(), cfg.Clock, cfg.Issuer)
	if b.Activity, err = activity.New(activity.Config{}, activity.Deps{
		Log: b.Logs.Activity, Users: b.Logs.User, Follow: b.Follow, Verifier: verifier, Ledger: b.Ledgers["activity"],
		Logger: of("activity"), Clock: cfg.Clock, Metrics: registry,
	}); err != nil {
		return fmt.Errorf("activity service: %w", err)
	}
	if b.Fraud, err = fraud.New(fraud.Config{MarkQuota: cfg.MarkQuota}, fraud.Deps{
		Log: b.Logs.Fraud, Activity: b.Logs.Activity, Users: b.Logs.User, Vault: b.FraudVault,
		Follow: b.Follow, Verifier: verifier, Ledger: b.Ledgers["fraud"], Snapshots: b.Snapshots, Labels: b.Labels,
		Logger: of("fraud"), Clock: cfg.Clock, Metrics: registry,
	}); err != nil {
		return fmt.Errorf("fraud service: %w", err)
	}
	if b.Projections, err = projections.New(projections.Config{}, projections.Deps{
		Activity: b.Logs.Activity, Follow: b.Follow, Verifier: verifier, Store: b.Views, Versions: b.Versions,
		Logs:   []log.Reader{b.Logs.Activity, b.Logs.Fraud, b.Logs.User},
		Logger: of("projections"), Clock: cfg.Clock, Metrics: registry,
	}); err != nil {
		return fmt.Errorf("projections service: %w", err)
	}
	checks := health.New(of("health"))
	b.User.AddChecks(checks)
	b.Activity.AddChecks(checks)
	b.Fraud.AddChecks(checks)
	b.Projections.AddChecks(checks)
	if b.Gateway, err = gateway.New(gateway.Config{RateLimits: cfg.RateLimits, LimitsURL: cfg.LimitsURL, TrustedProxies: cfg.TrustedProxies, Origins: cfg.Origins}, gateway.Deps{
		Verifier: verifier, Health: checks, Logger: of("gateway"), Clock: cfg.Clock, Metrics: registry,
		Upstreams: gateway.Upstreams{
			User: b.User.Handler(), Activity: b.Activity.Handler(), Fraud: b.Fraud.Handler(), Projections: b.Projections.Handler(),
		},
	}); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	return nil
}

// Run serves until ctx ends, then drains: requests first, then what follows the
// logs, then the logs' writers.
func (b *Backend) Run(ctx context.Context, listener net.Listener) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	return run.Group(ctx,
		b.Gateway.Run,
		func(ctx context.Context) error {
			defer stop() // once the last request is answered
			return run.HTTP(ctx, run.Server{Listener: listener, Handler: b.Gateway.Handler(), Certificate: b.certificate})
		},
		func(context.Context) error {
			return run.Group(background, b.feed.Run, b.User.Run, b.Activity.Run, b.Fraud.Run, b.Projections.Run)
		},
	)
}

// WaitReady returns once every service has caught up with what was in the logs.
func (b *Backend) WaitReady(ctx context.Context) error {
	for _, wait := range []func(context.Context) error{b.Activity.CatchUp, b.Projections.CatchUp, b.Fraud.CatchUp} {
		if err := wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Behind names what has not caught up, and what fails, for an operator.
func (b *Backend) Behind() (list []string) {
	for _, s := range []operate.Source{b.User.Subscriptions, b.Activity.Subscriptions, b.Fraud.Subscriptions, b.Projections.Subscriptions} {
		for _, st := range s.Statuses() {
			if st.CaughtUp && st.Lag == 0 {
				continue
			}
			text := fmt.Sprintf("%v at %d of %d", st.Place, st.Position, st.Head)
			if st.Failure != "" {
				text += ": could not " + st.Failure + ": " + st.Detail
			}
			list = append(list, text)
		}
	}
	return list
}

// Close lets what is queued be written and closes the stores.
func (b *Backend) Close() error {
	b.Logs.close()
	return b.Stores.Close()
}

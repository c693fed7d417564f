// Package gateway is the one door to the backend.
//
// It promises that
//   - only what is in the routing table is served: other paths are a 404, other
//     methods a 405 with Allow. A path is compared as it was sent; one with an
//     escape, an empty segment or a dot segment is none of ours, so that no
//     spelling of a path leads to /internal;
//   - without a good token, nothing but the public routes gets any further than
//     the door. The services check again by themselves;
//   - a request that HTTP/1.1 could not say as it came, or that says a thing twice, is a
//     400, so that no service reads another one than the gateway did;
//   - what a client says about who it is and where it comes from (X-Forwarded-*,
//     Forwarded, X-Real-Ip and their like) reaches no service;
//   - each user, or each address where there is no user, has a rate per class of
//     routes, counted together with other gateways if a server for that is given and
//     answers, else by each for itself; the memory for that is bounded, whoever comes;
//   - a service in this process is called directly: its answer is passed as it comes,
//     unbuffered and unwrapped. It has room and time of its own as one elsewhere has;
//   - a service elsewhere that does not answer is a 503 with Retry-After, and takes
//     nothing from the others: each has its own room, breaker and retry budget. A
//     request is sent again only if nothing of it has been sent, or if to carry it
//     out twice does no harm;
//   - when too much is under way, batches and moderation are refused first, then
//     reads and writes, sign-in last;
//   - no answer may be kept by anybody, but for the public ones, which say so and
//     have a tag; browsers are told to load and guess nothing, and pages of other
//     origins read nothing unless their origin was allowed;
//   - an answer that the gateway composes of several services' is given even if
//     one of them is ill, and says what is missing.
//
// A request to a service in this process is measured by that service; all others
// are measured here, under the service name "gateway".
package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/token"
)

// Gateway is the one door. Its handler serves before, while and after Run.
type Gateway struct {
	verifier *token.Verifier
	up       Upstreams
	log      *slog.Logger
	now      func() time.Time
	trusted  []netip.Prefix
	origins  map[string]bool
	requests *metrics.Requests // nil: not measured
	limits   *limiter          // nil: no rate limits
	checks   *health.Registry
	routes   router
	remotes  []*remote
	load     load
	serving  context.Context // ends when the gateway drains
	drain    context.CancelFunc
}

// New makes the gateway. It does no I/O; an error is a fault of deps.
func New(cfg Config, deps Deps) (*Gateway, error) {
	if err := deps.complete(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if err := checkOrigins(cfg.Origins); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := &Gateway{origins: make(map[string]bool),
		verifier: deps.Verifier, up: deps.Upstreams, log: deps.Logger, now: deps.Clock,
		trusted: cfg.TrustedProxies, checks: deps.Health,
	}
	if g.load.most = int64(cfg.MaxInFlight); g.load.most <= 0 {
		g.load.most = maxInFlight
	}
	for _, o := range cfg.Origins {
		g.origins[o] = true
	}
	g.serving, g.drain = context.WithCancel(context.Background())
	if deps.Metrics != nil {
		g.requests = metrics.NewRequests(deps.Metrics, "gateway")
		if err := deps.Metrics.Register(newUpstreamMetrics(g)); err != nil {
			return nil, fmt.Errorf("gateway: %w", err)
		}
	}
	if cfg.RateLimits {
		g.limits = newLimiter(maxBuckets)
		if cfg.LimitsURL != "" {
			var err error
			if g.limits.shared, err = newSharedLimiter(cfg.LimitsURL, g.log, g.now); err != nil {
				return nil, fmt.Errorf("gateway: %w", err)
			}
		}
		if deps.Metrics != nil {
			if err := deps.Metrics.Register(g.limits); err != nil {
				return nil, fmt.Errorf("gateway: %w", err)
			}
		}
	}
	g.checkUpstreams()
	d, err := readDocument()
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	p, err := newPages(d, g.checks, deps.Metrics)
	if err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	if g.routes, err = newRouter(g.table(p)); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	return g, nil
}

// checkUpstreams collects the services that are elsewhere and, if the gateway has
// to look after its health itself, adds their checks.
func (g *Gateway) checkUpstreams() {
	own := g.checks == nil
	if own {
		g.checks = health.New(g.log)
	}
	if r, ok := g.up.Streams.(*remote); ok && g.up.Streams != g.up.Projections {
		g.remotes = append(g.remotes, r)
	}
	for _, u := range g.up.named() {
		if r, ok := u.handler.(*remote); ok {
			g.remotes = append(g.remotes, r)
			if own {
				g.checks.Add(u.name, r.Ready)
			}
		}
	}
}

// Handler serves every route of the contract.
func (g *Gateway) Handler() http.Handler { return http.HandlerFunc(g.serve) }

// Health holds the checks that /readyz runs.
func (g *Gateway) Health() *health.Registry { return g.checks }

// Run follows the instances of services elsewhere, and counts rates together with other
// gateways, if that is wanted, until ctx ends; then it ends streams of events and lets go
// of connections that nobody uses. Nothing else ends it; requests under way are the
// server's to drain.
func (g *Gateway) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	if g.limits != nil && g.limits.shared != nil {
		wait.Go(func() { g.limits.shared.run(ctx) })
	}
	for _, r := range g.remotes {
		wait.Go(func() { r.run(ctx) })
	}
	<-ctx.Done()
	g.drain()
	return nil
}

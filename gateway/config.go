package gateway

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/token"
)

// Config of the gateway. The zero value is fit for use, and limits no rates.
type Config struct {
	// RateLimits turns the rate limits on.
	RateLimits bool
	// LimitsURL is that of a Valkey or Redis that the rates are counted in, together
	// with other gateways. With none, and while it does not answer, this gateway
	// counts by itself.
	LimitsURL string
	// TrustedProxies are the networks of our own load balancers, whose
	// X-Forwarded-For is believed. With none, a client's address is that of its
	// connection.
	TrustedProxies []netip.Prefix
	// MaxInFlight bounds the requests that are under way, at services elsewhere and in
	// this process; 0 means 4,096. From half of it on, what is less urgent is refused.
	MaxInFlight int
	// Origins are those whose pages may read answers (CORS), as in
	// https://app.example.org; none by default.
	Origins []string
}

// Upstreams are the services behind the gateway. Each is the handler of a service
// in this process, or what [Remote] made. All are needed.
type Upstreams struct {
	User        http.Handler
	Activity    http.Handler
	Fraud       http.Handler
	Projections http.Handler
	// Streams is the projections service for answers that do not end, if those are
	// to go another way; Projections if nil.
	Streams http.Handler
}

type namedUpstream struct {
	name    string
	handler http.Handler
}

func (u Upstreams) named() []namedUpstream {
	return []namedUpstream{
		{"activity", u.Activity}, {"fraud", u.Fraud}, {"projections", u.Projections}, {"user", u.User},
	}
}

// Deps are what the gateway works with. Verifier and Upstreams are needed.
type Deps struct {
	// Verifier decides which tokens to believe. Services in this process should
	// have the same one: it remembers what it has verified.
	Verifier  *token.Verifier
	Upstreams Upstreams
	// Health is what /readyz runs. If nil, the gateway asks the instances of its
	// remote upstreams.
	Health *health.Registry
	// Logger drops everything if nil.
	Logger *slog.Logger
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Metrics, if set, gets the gateway's figures, and is what /metrics serves.
	Metrics *prometheus.Registry
}

// complete fills in what is unset and reports every fault at once.
func (d *Deps) complete() error {
	var faults []error
	if d.Verifier == nil {
		faults = append(faults, errors.New("no token verifier is given"))
	}
	for _, u := range d.Upstreams.named() {
		if u.handler == nil {
			faults = append(faults, errors.New("no upstream for the "+u.name+" service is given"))
		}
		if r, ok := u.handler.(*remote); ok && r.fault != nil {
			faults = append(faults, fmt.Errorf("instances of the %s service: %w", u.name, r.fault))
		}
	}
	up := &d.Upstreams
	for _, to := range []*http.Handler{&up.User, &up.Activity, &up.Fraud, &up.Projections, &up.Streams} {
		*to = inRoom(*to)
	}
	if d.Upstreams.Streams == nil {
		d.Upstreams.Streams = d.Upstreams.Projections
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	return errors.Join(faults...)
}

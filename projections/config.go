package projections

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/token"
)

// Group is the subscription group that keeps the first version of the read models
// up to date; versions.Group names the others'.
const Group = versions.FirstGroup

const (
	// DefaultLookEvery is how often the service looks which version of the read
	// models is to be served.
	DefaultLookEvery = time.Second
	// DefaultCatchUpTimeout is how long it tries to catch up with a version before
	// it looks again whether that one is still wanted. What was done by then stays.
	DefaultCatchUpTimeout = 30 * time.Second
	// lookTimeout bounds one look.
	lookTimeout = 2 * time.Second
	// swapTimeout bounds how long requests wait while versions are exchanged; a few
	// milliseconds are usual.
	swapTimeout = 2 * time.Second
	// maxScan is how many events of a partition's tail are looked through for a
	// user's latest activities.
	maxScan = 10_000
	// retryAfter is what clients are told when something is down.
	retryAfter = time.Second
)

// Config of the service. The zero value is fit for use.
type Config struct {
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// LookEvery is DefaultLookEvery if 0, CatchUpTimeout DefaultCatchUpTimeout.
	LookEvery, CatchUpTimeout time.Duration
}

func (c *Config) complete() {
	if c.LookEvery == 0 {
		c.LookEvery = DefaultLookEvery
	}
	if c.CatchUpTimeout == 0 {
		c.CatchUpTimeout = DefaultCatchUpTimeout
	}
}

// Deps are what the service works with. Activity, Verifier, and either Store or
// Versions are needed.
type Deps struct {
	// Activity is the activity log.
	Activity log.Reader
	// Logs are the logs that analysts may read.
	Logs []log.Reader
	// Store keeps the read models where there is one version of them.
	Store views.Store
	// Ledger says how far the store has come, for all instances that share it.
	// With none, the store is this process's own and is folded anew from the log's
	// beginning.
	Ledger subscription.Ledger
	// Versions are the read models, and how far they have come, where there may be
	// several versions of them.
	Versions *versions.Registry
	// Follow makes the bus's subscribers; with none, the log is polled.
	Follow bus.Follow
	// Verifier decides which tokens to believe.
	Verifier *token.Verifier
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Clock is time.Now if nil. No read model depends on it.
	Clock func() time.Time
	// Metrics, if set, gets the service's figures, which /metrics then serves.
	Metrics *prometheus.Registry
}

func (d *Deps) complete() error {
	switch {
	case d.Activity == nil:
		return errors.New("no activity log is given")
	case (d.Store == nil) == (d.Versions == nil):
		return errors.New("a store or versions of it must be given, and not both")
	case d.Verifier == nil:
		return errors.New("no token verifier is given")
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	return nil
}

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
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/token"
)

// Group is the subscription group that keeps shared read models up to date.
const Group = "projections"

const (
	// maxScan is how many events of a partition's tail are looked through for a
	// user's latest activities.
	maxScan = 10_000
	// catchUpTimeout bounds the wait of the readiness check.
	catchUpTimeout = time.Second
	// retryAfter is what clients are told when something is down.
	retryAfter = time.Second
)

// Config of the service. The zero value is fit for use.
type Config struct {
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
}

// Deps are what the service works with. Activity, Store and Verifier are needed.
type Deps struct {
	// Activity is the activity log.
	Activity log.Reader
	// Logs are the logs that analysts may read.
	Logs []log.Reader
	// Store keeps the read models.
	Store views.Store
	// Checkpoints say how far the store has come, for all instances that share
	// it. With none, the store is this process's own and is folded anew from the
	// log's beginning.
	Checkpoints subscription.Checkpoints
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
	case d.Store == nil:
		return errors.New("no store is given")
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

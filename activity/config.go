package activity

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/token"
)

const (
	// MaxLines is the largest number of lines of a batch.
	MaxLines = 10_000
	// MaxBatchBytes is the largest body of a batch.
	MaxBatchBytes = 8 << 20
	// MaxLineBytes is the largest line of a batch, and the largest body of a single
	// activity.
	MaxLineBytes = 4 << 10
	// MaxAge is how old an activity of a member may be when it comes in: long
	// enough for a phone that was offline over a weekend.
	MaxAge = 72 * time.Hour
	// MaxSkew is how far occurred_at may lie in the future, for clocks that differ.
	MaxSkew = 5 * time.Second
)

const (
	// catchUpTimeout bounds the wait for the end of the user log.
	catchUpTimeout = 2 * time.Second
	// appendTimeout bounds the wait for an append to become durable.
	appendTimeout = 5 * time.Second
	// maxBatches bounds the batches under way, and with MaxBatchBytes their memory.
	maxBatches = 32
	// maxBatchesOfOne bounds the batches under way of one caller, so that a slow
	// one does not keep the others out.
	maxBatchesOfOne = 2
	// retryAfter is what clients are told when a queue is full or something is down.
	retryAfter = time.Second
)

// VisibilityGroup is the subscription group, shared by all instances, that turns
// a user's standing into events of the activity log.
const VisibilityGroup = "activity-visibility"

// usersGroup is the one that tells an instance who there is. Each has its own.
const usersGroup = "activity-users"

// Config of the service. The zero value is fit for use.
type Config struct {
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
}

// Deps are what the service works with. Log, Users and Verifier are needed.
type Deps struct {
	// Log is the activity log, which only this service appends to.
	Log *log.Log
	// Users is the user log.
	Users log.Reader
	// Follow makes the bus's subscribers; with none, logs are polled.
	Follow bus.Follow
	// Ledger keeps how far VisibilityGroup has come, for all instances. With none,
	// each instance works through the user log again at each start; what was
	// written before is known by its claim and not repeated.
	Ledger subscription.Ledger
	// Verifier decides which tokens to believe.
	Verifier *token.Verifier
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Clock is time.Now if nil.
	Clock func() time.Time
	// NewID makes the ID of an activity that came without; UUIDv7 if nil.
	NewID func() uuid.UUID
	// Metrics, if set, gets the service's figures, which /metrics then serves.
	Metrics *prometheus.Registry
}

func (d *Deps) complete() error {
	switch {
	case d.Log == nil:
		return errors.New("activity: no activity log is given")
	case d.Users == nil:
		return errors.New("activity: no user log is given")
	case d.Verifier == nil:
		return errors.New("activity: no token verifier is given")
	}
	if d.Logger == nil {
		d.Logger = slog.Default()
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.NewID == nil {
		d.NewID = func() uuid.UUID { return uuid.Must(uuid.NewV7()) }
	}
	return nil
}

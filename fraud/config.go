package fraud

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/labels"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/rulebook"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
)

const (
	// MaxNote is the longest note of a moderator and the longest appeal, in
	// characters.
	MaxNote = 2000
	// catchUpTimeout bounds the wait for the end of the fraud log.
	catchUpTimeout = 2 * time.Second
	// appendTimeout bounds the wait for an append to become durable.
	appendTimeout = 5 * time.Second
	// maxTries bounds how often a change is tried again because the flag has moved
	// meanwhile.
	maxTries = 8
	// MinCutEvery and defaultCutEvery are about Config.CutEvery. Each cut is an event of
	// some 200 bytes in the fraud log.
	MinCutEvery     = 50 * time.Millisecond
	defaultCutEvery = time.Second
	// retryAfter is what clients are told when something is down.
	retryAfter = time.Second
)

// Config of the service. The zero value is fit for use.
type Config struct {
	// TrustedProxies are the networks whose X-Forwarded-For is believed.
	TrustedProxies []netip.Prefix
	// Rules are the rules to define; those of the rule book if nil.
	Rules []rule.Rule
	// MarkQuota is how many users rules may mark on a day (UTC, by the time of what
	// they hit on), all rules together; beyond it they only flag. DefaultMarkQuota if
	// zero; none at all if negative.
	MarkQuota int
	// ExpireEvery is how often flags are looked for whose time is over; a minute if
	// zero.
	ExpireEvery time.Duration
	// CutEvery is how often the log is cut at most for rules that need the one order of
	// all partitions (see order): for so long their flags may keep waiting. A second if
	// zero, at least MinCutEvery.
	CutEvery time.Duration
}

// Deps are what the service works with. Log, Activity, Users, Ledger, Vault and
// Verifier are needed.
type Deps struct {
	// Log is the fraud log, which only this service appends to.
	Log *log.Log
	// Activity is the activity log.
	Activity log.Reader
	// Users is the user log, which says who is erased.
	Users log.Reader
	// Vault keeps the keys of what is written about users, for all instances.
	Vault vault.Vault
	// Ledger keeps up to where in the activity log flags have been raised, for all
	// instances.
	Ledger subscription.Ledger
	// Snapshots keeps, for this instance, what its rules have counted; with none, all of
	// the activity log is read at every start.
	Snapshots Snapshots
	// Labels are what is known of users from elsewhere, for backtests; may be nil.
	Labels labels.Store
	// Follow makes the bus's subscribers; with none, logs are polled.
	Follow bus.Follow
	// Verifier decides which tokens to believe.
	Verifier *token.Verifier
	// Logger is slog.Default() if nil.
	Logger *slog.Logger
	// Clock is time.Now if nil. It dates what moderators do; rules never read it.
	Clock func() time.Time
	// NewID makes the ID of what a moderator does; UUIDv7 if nil.
	NewID func() uuid.UUID
	// Metrics, if set, gets the service's figures, which /metrics then serves.
	Metrics *prometheus.Registry
}

func (d *Deps) complete() error {
	switch {
	case d.Log == nil:
		return errors.New("no fraud log is given")
	case d.Activity == nil:
		return errors.New("no activity log is given")
	case d.Users == nil:
		return errors.New("no user log is given")
	case d.Vault == nil:
		return errors.New("no vault is given")
	case d.Ledger == nil:
		return errors.New("no ledger is given")
	case d.Verifier == nil:
		return errors.New("no token verifier is given")
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

func (c *Config) complete() error {
	if c.MarkQuota == 0 {
		c.MarkQuota = DefaultMarkQuota
	}
	switch {
	case c.ExpireEvery == 0:
		c.ExpireEvery = defaultExpireEvery
	case c.ExpireEvery < 0:
		return fmt.Errorf("ExpireEvery is %s, must be positive", c.ExpireEvery)
	}
	switch {
	case c.CutEvery == 0:
		c.CutEvery = defaultCutEvery
	case c.CutEvery < MinCutEvery:
		return fmt.Errorf("CutEvery is %s, must be at least %s", c.CutEvery, MinCutEvery)
	}
	if c.Rules == nil {
		var err error
		c.Rules, err = rulebook.Rules()
		return err
	}
	for _, r := range c.Rules {
		if err := r.Validate(); err != nil {
			return fmt.Errorf("rule %q: %w", r.ID, err)
		}
	}
	return nil
}

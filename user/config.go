package user

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/account"
)

const (
	// AccessLifetime is how long an access token is good. Until it ends, roles
	// that were taken away and sessions that were ended still work.
	AccessLifetime = 10 * time.Minute
	// RefreshLifetime is how long a refresh token is good.
	RefreshLifetime = 30 * 24 * time.Hour
	// AdminHandle is the handle of the first admin. Nobody else can have it.
	AdminHandle = "admin"
)

const (
	// requestTimeout bounds the work on one request.
	requestTimeout = 5 * time.Second
	// retryAfter is what a client is told when something we need is gone or busy.
	retryAfter = time.Second
	// minRetry and maxRetry are the pauses between attempts to start.
	minRetry = 50 * time.Millisecond
	maxRetry = 5 * time.Second
)

// Config of the service. The zero value is fit for use and makes no admin.
type Config struct {
	// AdminEmail and AdminPassword make an account with the handle AdminHandle
	// and the roles admin, analyst and moderator, if that handle is free when Run
	// begins. Either both are set or none.
	AdminEmail    string
	AdminPassword string
	// KeyLife is how long a key signs access tokens until the next one does, at
	// least MinKeyLife; DefaultKeyLife if 0.
	KeyLife time.Duration
	// Issuer is the iss of access tokens, an https URL under which the gateway is
	// reached from outside; token.Issuer, and no OpenID discovery, if empty. Whoever
	// checks tokens must be told, too.
	Issuer string
	// OutsideIssuer is the URL of an outside OpenID provider whose ID tokens for
	// OutsideClient begin sessions, beside passwords; either both are set or none.
	OutsideIssuer string
	OutsideClient string
	// NoRegistration closes POST /v1/users, so that who is new comes by the outside
	// provider.
	NoRegistration bool
	// Gateways are the networks that gateways call from, whose X-Forwarded-For is
	// believed. With none, a client's address is that of its connection.
	Gateways []netip.Prefix
	// UnlimitedGuesses has wrong passwords not slowed down: for tests and load.
	UnlimitedGuesses bool
	// Idle is the longest time after which what another log or another instance
	// says is noticed without a hint from the bus; one second if 0.
	Idle time.Duration
}

// Deps is what the service works with. Log, Fraud, Activity and Vault are needed.
type Deps struct {
	// Log is the user log, which this service alone appends to.
	Log *log.Log
	// Fraud is the fraud log, which says who is marked and cleared.
	Fraud log.Reader
	// Activity is the activity log: what somebody did is part of their export.
	Activity log.Reader
	// Vault keeps the secrets.
	Vault vault.Vault
	// Follow gives subscribers to the bus, which stay the giver's to close;
	// without it logs are read every Idle.
	Follow bus.Follow
	// Outside is how the outside provider is reached; http.DefaultTransport if nil.
	Outside http.RoundTripper
	// Logger drops everything if nil.
	Logger *slog.Logger
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Rand is the source of keys, tokens, salts and IDs; crypto/rand.Reader if
	// nil. It is read concurrently.
	Rand io.Reader
	// Metrics gets the request histogram; nothing is measured if nil.
	Metrics prometheus.Registerer
}

// check fills in what is unset and reports every fault at once.
func (d *Deps) check() error {
	var faults []error
	if d.Log == nil {
		faults = append(faults, errors.New("Deps.Log is missing"))
	}
	if d.Fraud == nil {
		faults = append(faults, errors.New("Deps.Fraud is missing"))
	}
	if d.Activity == nil {
		faults = append(faults, errors.New("Deps.Activity is missing"))
	}
	if d.Vault == nil {
		faults = append(faults, errors.New("Deps.Vault is missing"))
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	if d.Clock == nil {
		d.Clock = time.Now
	}
	if d.Rand == nil {
		d.Rand = rand.Reader
	}
	return errors.Join(faults...)
}

func (c Config) keyLife() time.Duration { return cmp.Or(c.KeyLife, DefaultKeyLife) }

// check reports every fault at once. No message repeats the password.
func (c Config) check() error {
	var faults []error
	if c.keyLife() < MinKeyLife {
		faults = append(faults, fmt.Errorf("KeyLife (MEET5_KEY_LIFE) must be at least %v", MinKeyLife))
	}
	if err := token.CheckIssuer(c.Issuer); err != nil {
		faults = append(faults, fmt.Errorf("the Issuer (MEET5_ISSUER) %w", err))
	}
	if err := token.CheckIssuer(strings.TrimSuffix(c.OutsideIssuer, "/")); err != nil {
		faults = append(faults, fmt.Errorf("OutsideIssuer (MEET5_OIDC_ISSUER) %w", err))
	}
	if (c.OutsideIssuer == "") != (c.OutsideClient == "") {
		faults = append(faults, errors.New("OutsideIssuer (MEET5_OIDC_ISSUER) and OutsideClient (MEET5_OIDC_CLIENT) go together"))
	}
	if c.AdminEmail == "" && c.AdminPassword == "" {
		return errors.Join(faults...)
	}
	if _, ok := account.FoldEmail(c.AdminEmail); !ok {
		faults = append(faults, errors.New("AdminEmail (MEET5_ADMIN_EMAIL) must be an e-mail address"))
	}
	if must := account.CheckPassword(c.AdminPassword); must != "" {
		faults = append(faults, fmt.Errorf("AdminPassword (MEET5_ADMIN_PASSWORD) %s", must))
	}
	return errors.Join(faults...)
}

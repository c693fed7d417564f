// Package user is the user service: accounts, credentials, sessions and keys,
// profiles, roles and status.
//
// It promises that
//   - the user log is the truth about accounts, and it is read at the moment of
//     each question: there is no read model that could be behind;
//   - of any number of people who want one handle or one e-mail at once, in
//     whatever spelling of case, exactly one gets it;
//   - what says who somebody is is in the log only sealed, with a key of that
//     user's alone, and names are held there by digests; erasing an account
//     destroys the key, and with it what every copy of the log says of them;
//   - password hashes, keys and refresh tokens are never in the log;
//   - whether a login is known cannot be told from the answer or its time;
//   - keys that sign access tokens are rotated without a token being refused for
//     it, by any number of instances at once;
//   - changing the password ends every other session, also one that is being
//     started meanwhile with the old one;
//   - wrong passwords are slowed down, by login and by address, without locking out
//     whose they are; package guess says how far;
//   - a refresh token works once, and its reuse ends its session;
//   - an identity at the outside provider, if there is one, leads to one account: its
//     own, whatever e-mail it has; an ID token works once;
//   - a user is fraudulent while a confirmed flag of theirs is not overturned,
//     however often a decision is delivered.
//
// Decisions worth knowing:
//   - PATCH /v1/me needs If-Match (428 without), since a lost update would be
//     nobody's intention; DELETE /v1/me does without it;
//   - a malformed id in a path is a 422, a well-formed unknown one a 404;
//   - an erased user's e-mail is free at once, their handle after HandleHold. Their
//     access token ends by itself, after AccessLifetime at most;
//   - the handle "admin" is the first admin's, and taken for everybody else.
//
// The domain is in account, secrets are kept by a vault, and this package joins
// them to the log and to HTTP. Internal routes, under /internal, are for other
// services: no gateway may route to them from outside.
package user

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/operate"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/guess"
	"github.com/meet5/backend/user/password"
	"github.com/meet5/backend/user/provider"
)

// Service is the user service. Its handler serves before, while and after Run;
// Run does what is to be done in the background.
type Service struct {
	accounts
	cfg     Config
	logger  *slog.Logger
	keys    *keyrings
	hasher  *password.Hasher
	guesses *guess.Limiter
	outside *provider.Provider // nil: there is none
	// activity is read for exports, of which so many may be under way.
	activity log.Reader
	exports  exports
	cards    *cards
	handler  http.Handler

	subscriptions []*subscription.Subscription
	started       atomic.Bool
}

// New makes the service. It does no I/O; an error is a fault of cfg or deps.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := errors.Join(cfg.check(), deps.check()); err != nil {
		return nil, fmt.Errorf("user service: %w", err)
	}
	s := &Service{
		accounts: accounts{log: deps.Log, vault: deps.Vault, clock: deps.Clock, rand: deps.Rand},
		cfg:      cfg,
		logger:   deps.Logger,
		keys:     newKeyrings(deps.Vault, deps.Rand, deps.Clock),
		hasher:   password.NewHasher(deps.Rand),
		guesses:  guess.New(deps.Clock),
		activity: deps.Activity,
		cards:    newCards(maxCards),
	}
	if s.cfg.OutsideIssuer != "" {
		s.outside = provider.New(s.cfg.OutsideIssuer, s.cfg.OutsideClient, deps.Outside, deps.Clock)
	}
	s.handler = s.routes(deps)
	if err := s.follow(deps); err != nil {
		return nil, fmt.Errorf("user service: %w", err)
	}
	if deps.Metrics != nil {
		if err := operate.Source(s.Subscriptions).Register(deps.Metrics, "user"); err != nil {
			return nil, fmt.Errorf("user service: %w", err)
		}
	}
	return s, nil
}

// routes lists what the service serves, sorted by path.
func (s *Service) routes(deps Deps) http.Handler {
	e := web.New(web.Options{Service: "user", Logger: deps.Logger, Metrics: deps.Metrics, TrustedProxies: s.cfg.Gateways})
	e.Use(showErrors, boundTime)
	verifier := token.NewVerifier(s.keys, deps.Clock, s.cfg.Issuer)
	anyone := token.Require(verifier)
	admin := token.Require(verifier, token.RoleAdmin)
	moderator := token.Require(verifier, token.RoleModerator)

	e.GET("/.well-known/jwks.json", s.handleKeys)
	e.GET("/.well-known/openid-configuration", s.handleDiscovery)
	e.POST("/internal/users/cards", s.handleCards, anyone)
	e.GET("/internal/users/:id", s.handleCase, moderator)
	e.GET("/v1/admin/keys", s.handleListKeys, admin)
	e.POST("/v1/admin/keys/rotate", s.handleRotateKeys, admin)
	e.POST("/v1/admin/users/:id/roles", s.handleRoles, admin)
	e.DELETE("/v1/me", s.handleErase, anyone)
	e.GET("/v1/me", s.handleMe, anyone)
	e.PATCH("/v1/me", s.handleChange, anyone)
	e.GET(exportPath, s.handleExport, anyone)
	e.POST("/v1/me/password", s.handlePassword, anyone)
	e.GET("/v1/me/sessions", s.handleSessions, anyone)
	e.DELETE("/v1/me/sessions/:id", s.handleEndSession, anyone)
	e.DELETE("/v1/sessions", s.handleSignOutEverywhere, anyone)
	e.POST("/v1/sessions", s.handleSignIn)
	e.DELETE("/v1/sessions/current", s.handleSignOut, anyone)
	e.POST("/v1/sessions/oidc", s.handleOutside)
	e.POST("/v1/sessions/refresh", s.handleRefresh)
	e.POST("/v1/users", s.handleRegister)
	e.GET("/v1/users/:id", s.handleProfile, anyone)
	operate.Source(s.Subscriptions).Mount(e, "user", verifier)
	return e
}

// boundTime ends work on a request that takes too long.
func boundTime(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		timeout := requestTimeout
		if c.Path() == exportPath {
			timeout = exportTimeout
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		c.SetRequest(r.WithContext(ctx))
		// Whoever looks at the request afterwards must not take our end of it for
		// the client's.
		defer c.SetRequest(r)
		return next(c)
	}
}

// Groups of subscriptions. Their names are durable data.
const (
	standingGroup = "user-standing"
	erasureGroup  = "user-erasure"
	cardsGroup    = "user-cards" // each instance has one of its own
)

// follow makes the subscriptions.
func (s *Service) follow(deps Deps) error {
	shared := deps.Vault.Ledger()
	for _, sub := range []struct {
		cfg    subscription.Config
		queues string // the group whose queues it shares; its own alone if empty
	}{
		{subscription.Config{Log: deps.Fraud, Group: standingGroup, Handler: s.applyDecisions, Ledger: shared}, standingGroup},
		{subscription.Config{Log: deps.Log, Group: erasureGroup, Handler: vault.Erasures(deps.Vault), Ledger: shared}, erasureGroup},
		{subscription.Config{Log: deps.Log, Group: cardsGroup, Handler: s.dropChangedCards, Ledger: newFromEnd(deps.Log, s.cards.dropAll)}, ""},
	} {
		cfg := sub.cfg
		if deps.Follow != nil {
			hints, err := deps.Follow(sub.queues)
			if err != nil {
				return fmt.Errorf("follow the bus as %q: %w", cfg.Group, err)
			}
			cfg.Bus = hints
		}
		cfg.Idle, cfg.Logger, cfg.Clock = s.cfg.Idle, deps.Logger, deps.Clock
		s.subscriptions = append(s.subscriptions, subscription.New(cfg))
	}
	return nil
}

// Handler serves the public routes under the paths of the contract, and the
// internal ones.
func (s *Service) Handler() http.Handler { return s.handler }

// KeySet is the keys that access tokens are verified with, for those who run in
// the same process.
func (s *Service) KeySet() token.KeySet { return s.keys }

// CatchUp returns once Run has worked through everything that was in the logs
// when it was called, or with ctx's error.
func (s *Service) CatchUp(ctx context.Context) error {
	for _, sub := range s.subscriptions {
		if err := sub.CatchUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Run makes the keys and the first admin, follows the logs and keeps the vault
// tidy until ctx ends, then waits for what is under way and returns nil. It
// fails if the first admin cannot be made; that the vault or the log does not
// answer is waited for.
func (s *Service) Run(ctx context.Context) error {
	if err := s.start(ctx); err != nil || ctx.Err() != nil {
		return err
	}
	functions := []func(context.Context) error{s.tidy, s.rotateKeys}
	for _, sub := range s.subscriptions {
		functions = append(functions, sub.Run)
	}
	return run.Group(ctx, functions...)
}

// start tries until it succeeds, fails for good, or ctx ends.
func (s *Service) start(ctx context.Context) error {
	for wait := minRetry; ; wait = min(2*wait, maxRetry) {
		attempt, cancel := context.WithTimeout(ctx, requestTimeout)
		_, err := s.keys.get(attempt)
		if err == nil {
			err = s.ensureAdmin(attempt)
		}
		cancel()
		switch {
		case err == nil:
			s.started.Store(true)
			return nil
		case ctx.Err() != nil:
			return nil
		case !passes(err):
			return fmt.Errorf("start the user service: %w", err)
		}
		if wait == minRetry {
			s.logger.WarnContext(ctx, "the user service cannot start yet, trying again", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// tidy keeps the vault tidy.
func (s *Service) tidy(ctx context.Context) error {
	vault.KeepTidy(ctx, s.logger, func(ctx context.Context) error {
		return errors.Join(s.forgetSpent(ctx), s.vault.Tidy(ctx, s.now()))
	})
	return nil
}

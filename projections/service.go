// Package projections keeps the read models of the activity log (who visited
// whom, who likes whom, matches, numbers) and answers questions from them.
//
// What the lists mean is laid down in package views. The service adds that a list
// is as fresh as its subscription, usually by a few milliseconds; that nobody but
// the user sees their lists; and that names are not its business: it answers with
// IDs.
//
// GET /v1/me/events tells a member what happens to them while it does; package
// notices says what it promises.
//
// Where there are several versions of the read models, one serves. The service
// looks which about once a second, and changes over when another one is told to: it
// catches up with that version, lets requests wait for a moment in which nothing is
// read, and goes on with the new one. So no request fails for it, sees a version
// that is half built, or an older state than a request before it.
package projections

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/history"
	"github.com/meet5/backend/projections/notices"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/operate"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// Service keeps the read models and answers from them.
type Service struct {
	cfg    Config
	deps   Deps
	router *echo.Echo

	door    door
	current atomic.Pointer[edition] // that requests are answered from
	known   chan struct{}           // closed once there is one

	notices *notices.Hub // tells those who are connected

	mu      sync.Mutex
	running []*edition // that follow the log
}

// New makes the service. It does no I/O.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := deps.complete(); err != nil {
		return nil, err
	}
	cfg.complete()
	s := &Service{cfg: cfg, deps: deps, known: make(chan struct{})}
	if deps.Store != nil {
		e, err := s.edit(0, deps.Store, deps.Ledger)
		if err != nil {
			return nil, err
		}
		s.running = []*edition{e}
		s.current.Store(e)
		close(s.known)
	}
	var err error
	if s.notices, err = s.tell(); err != nil {
		return nil, err
	}
	if deps.Metrics != nil {
		if err := s.notices.Register(deps.Metrics); err != nil {
			return nil, fmt.Errorf("projections service: %w", err)
		}
		if err := operate.Source(s.Subscriptions).Register(deps.Metrics, "projections"); err != nil {
			return nil, fmt.Errorf("projections service: %w", err)
		}
	}
	s.router = s.routes(cfg)
	return s, nil
}

func (s *Service) routes(cfg Config) *echo.Echo {
	o := web.Options{Service: "projections", Logger: s.deps.Logger, TrustedProxies: cfg.TrustedProxies}
	if s.deps.Metrics != nil {
		o.Metrics = s.deps.Metrics
	}
	e := web.New(o)
	me := e.Group("/v1/me", token.Require(s.deps.Verifier))
	me.GET("/events", s.myEvents)
	me.GET("/visitors", listVisits("visitors", query(s, views.Store.Visitors)))
	me.GET("/visits", listVisits("visits", query(s, views.Store.Visits)))
	me.GET("/likes/received", listLikes("likes/received", query(s, views.Store.LikesReceived)))
	me.GET("/likes/given", listLikes("likes/given", query(s, views.Store.LikesGiven)))
	me.GET("/matches", listLikes("matches", query(s, views.Store.Matches)))
	me.GET("/stats", s.myStats)
	internal := e.Group("/internal", token.Require(s.deps.Verifier, token.RoleModerator))
	internal.GET("/users/:id/stats", s.userStats)
	internal.GET("/users/:id/activities", s.userActivities)
	e.GET("/internal/projections", s.state,
		token.Require(s.deps.Verifier, token.RoleModerator, token.RoleAnalyst, token.RoleAdmin))
	history.Logs(s.deps.Logs).Mount(e, s.deps.Verifier)
	operate.Source(s.Subscriptions).Mount(e, "projections", s.deps.Verifier)

	checks := health.New(s.deps.Logger)
	s.AddChecks(checks)
	checks.Mount(e)
	if s.deps.Metrics != nil {
		e.GET("/metrics", echo.WrapHandler(metrics.Handler(s.deps.Metrics)))
	}
	return e
}

// Handler serves the service's routes, and its health and metrics.
func (s *Service) Handler() http.Handler { return s.router }

// CatchUp returns once the read models hold everything that was in the activity
// log when it was called, or with ctx's error.
func (s *Service) CatchUp(ctx context.Context) error {
	select {
	case <-s.known:
		return s.current.Load().sub.CatchUp(ctx)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errUnknown, ctx.Err())
	}
}

// Subscriptions are those that run now: the read models', while the service changes
// over to another version of them that one's, too, and last that of the notices.
func (s *Service) Subscriptions() []*subscription.Subscription {
	var out []*subscription.Subscription
	for _, e := range s.editions() {
		out = append(out, e.sub)
	}
	return append(out, s.notices.Subscription())
}

// AddChecks adds what the service's readiness depends on: that the version of the
// read models is known from which it answers, and that what it follows has caught up
// once and does not stand still.
func (s *Service) AddChecks(r *health.Registry) {
	follows := operate.Source(s.Subscriptions).Check()
	r.Add("projections-subscriptions", func(ctx context.Context) (any, error) {
		if s.current.Load() == nil {
			return nil, errUnknown
		}
		return follows(ctx)
	})
	r.Add("projections-log", func(ctx context.Context) (any, error) {
		_, err := s.deps.Activity.Head(ctx, 0)
		return nil, err
	})
}

// Package projections keeps the read models of the activity log (who visited
// whom, who likes whom, matches, numbers) and answers questions from them.
//
// What the lists mean is laid down in package views. The service adds that a list
// is as fresh as its subscription, usually by a few milliseconds; that nobody but
// the user sees their lists; and that names are not its business: it answers with
// IDs.
package projections

import (
	"context"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/history"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// Service keeps the read models and answers from them.
type Service struct {
	deps   Deps
	sub    *subscription.Subscription
	router *echo.Echo
}

// New makes the service. It does no I/O.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := deps.complete(); err != nil {
		return nil, err
	}
	s := &Service{deps: deps}
	follow := subscription.Config{
		Log: deps.Activity, Group: Group, Checkpoints: deps.Checkpoints, Logger: deps.Logger, Clock: deps.Clock,
		Handler: views.Handler(deps.Store, func(e events.Recorded, err error) {
			deps.Logger.Error("an event is left out of the read models: its payload cannot be read",
				"event", e.ID, "partition", e.Partition, "sequence", e.Sequence, "error", err)
		}),
	}
	if deps.Follow != nil {
		group := Group
		if deps.Checkpoints == nil {
			group = "" // each instance needs every message
		}
		var err error
		if follow.Bus, err = deps.Follow(group); err != nil {
			return nil, fmt.Errorf("follow the activity log: %w", err)
		}
	}
	s.sub = subscription.New(follow)
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
	me.GET("/visitors", listVisits("visitors", s.deps.Store.Visitors))
	me.GET("/visits", listVisits("visits", s.deps.Store.Visits))
	me.GET("/likes/received", listLikes("likes/received", s.deps.Store.LikesReceived))
	me.GET("/likes/given", listLikes("likes/given", s.deps.Store.LikesGiven))
	me.GET("/matches", listLikes("matches", s.deps.Store.Matches))
	me.GET("/stats", s.myStats)
	internal := e.Group("/internal", token.Require(s.deps.Verifier, token.RoleModerator))
	internal.GET("/users/:id/stats", s.userStats)
	internal.GET("/users/:id/activities", s.userActivities)
	e.GET("/internal/projections", s.status,
		token.Require(s.deps.Verifier, token.RoleModerator, token.RoleAnalyst, token.RoleAdmin))
	history.Logs(s.deps.Logs).Mount(e, s.deps.Verifier)

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

// Run follows the activity log until ctx ends and what is in progress has been
// worked through. Nothing else ends it.
func (s *Service) Run(ctx context.Context) error { return s.sub.Run(ctx) }

// CatchUp returns once the read models hold everything that was in the activity
// log when it was called, or with ctx's error.
func (s *Service) CatchUp(ctx context.Context) error { return s.sub.CatchUp(ctx) }

// Status tells how the read models stand in each partition.
func (s *Service) Status() []subscription.Status { return s.sub.Status() }

// AddChecks adds what the service's readiness depends on: that the read models
// keep up with the log.
func (s *Service) AddChecks(r *health.Registry) { r.Add("projections", s.ready) }

func (s *Service) ready(ctx context.Context) (any, error) {
	status := s.sub.Status()
	for i := range status {
		status[i].LastFail = "" // what went wrong is for the log: it may name hosts
	}
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	if err := s.sub.CatchUp(ctx); err != nil {
		return status, fmt.Errorf("keep up with the activity log: %w", err)
	}
	return status, nil
}

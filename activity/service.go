package activity

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/operate"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// Service accepts activities.
type Service struct {
	deps       Deps
	users      *directory
	usersSub   *subscription.Subscription
	visibility *subscription.Subscription
	late       catchUp
	slots      slots
	router     *echo.Echo
}

// New makes the service. It does no I/O.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := deps.complete(); err != nil {
		return nil, err
	}
	s := &Service{
		deps:  deps,
		users: newDirectory(),
		slots: slots{all: maxBatches, each: maxBatchesOfOne},
	}
	var err error
	if s.usersSub, err = newSubscription(deps, usersGroup, nil, s.users.handle); err != nil {
		return nil, err
	}
	v := &visibility{users: deps.Users, log: deps.Log}
	if s.visibility, err = newSubscription(deps, VisibilityGroup, deps.Ledger, v.handle); err != nil {
		return nil, err
	}
	s.late = catchUp{read: s.usersSub.CatchUp, timeout: catchUpTimeout}
	if deps.Metrics != nil {
		if err := operate.Source(s.Subscriptions).Register(deps.Metrics, "activity"); err != nil {
			return nil, fmt.Errorf("activity service: %w", err)
		}
	}
	s.router = s.routes(cfg)
	return s, nil
}

func (s *Service) routes(cfg Config) *echo.Echo {
	o := web.Options{Service: "activity", Logger: s.deps.Logger, TrustedProxies: cfg.TrustedProxies}
	if s.deps.Metrics != nil {
		o.Metrics = s.deps.Metrics
	}
	e := web.New(o)
	signedIn := token.Require(s.deps.Verifier)
	e.POST("/v1/activities", s.postActivity, web.BodyLimit(MaxLineBytes), signedIn)
	e.POST("/v1/activities/batch", s.postBatch, web.BodyLimit(MaxBatchBytes), signedIn)
	operate.Source(s.Subscriptions).Mount(e, "activity", s.deps.Verifier)

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

// Run follows the user log until ctx ends and what is in progress has been
// worked through. Nothing else ends it.
func (s *Service) Run(ctx context.Context) error {
	return run.Group(ctx, s.usersSub.Run, s.visibility.Run)
}

// CatchUp returns once the service knows everything that was in the user log when
// it was called, the visibility of actors included, or with ctx's error.
func (s *Service) CatchUp(ctx context.Context) error {
	if err := s.usersSub.CatchUp(ctx); err != nil {
		return err
	}
	return s.visibility.CatchUp(ctx)
}

// AddChecks adds what the service needs to be ready: what it follows has caught up
// and does not stand still, and the activity log answers.
func (s *Service) AddChecks(r *health.Registry) {
	r.Add("activity-subscriptions", operate.Source(s.Subscriptions).Check())
	r.Add("activity-log", func(ctx context.Context) (any, error) {
		_, err := s.deps.Log.Head(ctx, 0)
		return nil, err
	})
}

// Subscriptions are those that the service runs.
func (s *Service) Subscriptions() []*subscription.Subscription {
	return []*subscription.Subscription{s.usersSub, s.visibility}
}

// refusal makes a problem of what kept an append from becoming durable.
func refusal(err error) error {
	var p *problem.Problem
	switch {
	case errors.Is(err, log.ErrOverloaded):
		p = problem.Unavailable("too many activities wait to be written; nothing was accepted, send it again a little later", retryAfter)
	case errors.Is(err, log.ErrUnavailable), errors.Is(err, log.ErrClosed), errors.Is(err, context.DeadlineExceeded):
		p = problem.Unavailable("it is not known to be written; send it again with the same id, and it will count once", retryAfter)
	default:
		return err
	}
	return fmt.Errorf("%w: %w", p, err)
}

// first reads the activity that stood in the log before an event of the same ID.
// It is a conflict if it is none of this actor's.
func (s *Service) first(ctx context.Context, e *events.Event, at events.Position) (answer, error) {
	r, err := log.Get(ctx, s.deps.Log, at)
	if err != nil {
		return answer{}, unreadable(err)
	}
	return sameActor(r, e)
}

func sameActor(first events.Recorded, e *events.Event) (answer, error) {
	a, ok := answerOf(first)
	if !ok || a.actor != e.Stream {
		return answer{}, problem.Conflict("another event has this id", problem.Field("id", "is taken; make a new one"))
	}
	return a, nil
}

func unreadable(err error) error {
	return fmt.Errorf("%w: read the first answer: %w",
		problem.Unavailable("what was written under this id cannot be read right now", retryAfter), err)
}

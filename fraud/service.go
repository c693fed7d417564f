// Package fraud is the fraud service: it runs rules over the activity log, raises
// flags, and lets moderators decide on them.
//
// It promises that
//   - a flag names the very events that raised it, and follows from them and the
//     rule alone: a restart, another instance or a backtest comes to the same
//     flag, byte for byte, and it is raised once however many of them do;
//   - of one user and rule one flag stands at a time. While it does, and for
//     flag.Snooze after a dismissal, further hits raise nothing;
//   - flags are read at the moment of the question, from the fraud log: a
//     decision that was answered is in every later answer;
//   - of two moderators who decide on one flag at once, one does, and the other
//     gets a 409; the same goes for a moderator and the end of a flag's time;
//   - a bulk operation is one commit: either all of it is in the log, with what it
//     takes to undo it, or nothing is;
//   - rules mark no more users on a day than Config.MarkQuota, however many
//     instances run;
//   - what people write about a flagged user, appeals and notes, is in the log only
//     sealed, with a key of that user's, which is destroyed when they are erased. What
//     happened to the flag and who did it stays;
//   - rules are what the fraud log says. A change of them is loaded by every instance
//     without a restart, warmed with all of history, and raises flags from one place
//     in the activity log on, whichever instance works there and whenever it hears of
//     the change (see register).
//
// Each instance works through the activity log from its beginning at every start,
// to fill the rules' windows, or from its snapshots on, if it has been given a place for
// those (Deps.Snapshots) and finds some that can be used. What it finds up to where flags
// have been raised before (the checkpoint) only counts; what comes after raises flags.
//
// The mechanism is in engine, what a rule may say in rule, the rules that ship in
// rulebook, and a flag's life in flag. Internal routes, under /internal, are for
// other services: no gateway may route to them from outside.
package fraud

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/queue"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/operate"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/web"
)

// Service is the fraud service. Its handler serves before, while and after Run;
// what it needs of the logs it knows only while Run runs.
type Service struct {
	cfg     Config
	deps    Deps
	board   *flag.Board
	bulks   bulks
	rules   *register.Register
	ordered *ordered
	raiser  *raiser
	metrics *figures
	// backtests are those that were asked for, and worker does them.
	backtests *queue.Register
	worker    *queue.Worker
	taking    chan struct{} // holds a token while a moderator is given the next flag
	trying    chan struct{} // holds a token while rules are tried
	changed   chan struct{} // holds a token while a change of the rules is to be carried out

	texts    texts
	own      *subscription.Subscription // of the fraud log
	activity *subscription.Subscription
	erasures *subscription.Subscription // in the user log; all instances share it
	handler  http.Handler
}

// New makes the service. It does no I/O; an error is a fault of cfg or deps.
func New(cfg Config, deps Deps) (*Service, error) {
	if err := errors.Join(cfg.complete(), deps.complete()); err != nil {
		return nil, fmt.Errorf("fraud service: %w", err)
	}
	s := &Service{
		cfg: cfg, deps: deps,
		board: flag.NewBoard(), rules: register.New(), metrics: newFigures(deps.Metrics),
		texts:  texts{vault: deps.Vault, users: deps.Users},
		taking: make(chan struct{}, 1), trying: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	s.backtests = queue.NewRegister(deps.Clock)
	s.worker = &queue.Worker{
		Register: s.backtests, Log: deps.Log, CatchUp: s.catchUp, Try: s.tryBacktest,
		Clock: deps.Clock, NewID: deps.NewID, Instance: deps.NewID(), Logger: deps.Logger,
	}
	s.raiser = &raiser{
		fraud: deps.Log, activity: deps.Activity, checkpoints: deps.Ledger, ledger: subscription.NewMemory(),
		clock: deps.Clock, logger: deps.Logger, board: s.board, rules: s.rules,
		catchUp: s.catchUp, settle: s.settle, figures: s.metrics,
		quota: newMarkQuota(cfg.MarkQuota, s.board, deps.Metrics), users: engine.NewUsers(),
		another: make(chan struct{}, 1),
	}
	s.raiser.snapshots = newSnapshotter(s.raiser, deps.Snapshots, deps.Metrics)
	s.ordered = newOrdered(s.raiser, cfg.CutEvery)
	var err error
	if s.own, err = s.subscribe(subscription.Config{Group: flagsGroup, Log: deps.Log, Handler: s.fold}, ""); err == nil {
		s.activity, err = s.subscribe(subscription.Config{Group: rulesGroup, Log: deps.Activity, Handler: s.raiser.handle, Ledger: s.raiser.ledger}, "")
	}
	if err == nil {
		s.erasures, err = s.subscribe(subscription.Config{Group: erasureGroup, Log: deps.Users, Handler: vault.Erasures(deps.Vault), Ledger: deps.Vault.Ledger()}, erasureGroup)
	}
	if err != nil {
		return nil, fmt.Errorf("fraud service: %w", err)
	}
	if deps.Metrics != nil {
		if err := s.collectRules(deps.Metrics); err != nil {
			return nil, fmt.Errorf("fraud service: %w", err)
		}
		if err := operate.Source(s.Subscriptions).Register(deps.Metrics, "fraud"); err != nil {
			return nil, fmt.Errorf("fraud service: %w", err)
		}
	}
	s.handler = s.routes()
	return s, nil
}

// Groups of subscriptions. Of the first two each instance has its own; the name of the
// third is durable data.
const (
	flagsGroup   = "fraud-flags"
	rulesGroup   = "fraud-rules"
	erasureGroup = "fraud-erasure"
)

// subscribe makes a subscription that shares the queues of a group, its own alone if
// that is empty.
func (s *Service) subscribe(cfg subscription.Config, queues string) (*subscription.Subscription, error) {
	cfg.Logger, cfg.Clock = s.deps.Logger, s.deps.Clock
	if s.deps.Follow != nil {
		var err error
		if cfg.Bus, err = s.deps.Follow(queues); err != nil {
			return nil, fmt.Errorf("follow log %s: %w", cfg.Log.Name(), err)
		}
	}
	return subscription.New(cfg), nil
}

// fold takes in events of the fraud log. One that comes again, even late, changes
// nothing: flags and rules know the version that they have come to.
func (s *Service) fold(_ context.Context, b subscription.Batch) error {
	for _, e := range b.Events {
		if err := errors.Join(s.board.Apply(e), s.bulks.Apply(e), s.backtests.Apply(e)); err != nil {
			return subscription.Poison(e, err)
		}
		s.ordered.tip.Apply(e)
		if s.rules.Apply(e) {
			select {
			case s.changed <- struct{}{}:
			default: // it is known that there is something to do
			}
		}
	}
	return nil
}

func (s *Service) routes() http.Handler {
	o := web.Options{Service: "fraud", Logger: s.deps.Logger, TrustedProxies: s.cfg.TrustedProxies}
	if s.deps.Metrics != nil {
		o.Metrics = s.deps.Metrics
	}
	e := web.New(o)
	moderator := token.Require(s.deps.Verifier, token.RoleModerator)
	e.GET("/v1/moderation/flags", s.listFlags, moderator)
	e.POST("/v1/moderation/flags/next", s.takeNext, moderator)
	e.GET("/v1/moderation/flags/:id", s.showFlag, moderator)
	e.POST("/v1/moderation/flags/:id/decision", s.decide, moderator)
	e.POST("/v1/moderation/flags/:id/assignee", s.assign, moderator)
	e.POST("/v1/moderation/flags/:id/notes", s.annotate, moderator)
	e.GET("/v1/moderation/bulk", s.listBulk, moderator)
	e.POST("/v1/moderation/bulk", s.decideInBulk, moderator)
	e.GET("/v1/moderation/bulk/:id", s.showBulk, moderator)
	e.POST("/v1/moderation/bulk/:id/undo", s.undoBulk, moderator)
	e.GET("/v1/moderation/rules", s.listRules, moderator)
	e.GET("/v1/moderation/rules/schema.json", serveRuleSchema, moderator)
	e.POST("/v1/moderation/rules/validate", s.validateRules, moderator)
	e.GET("/v1/moderation/rules/:id", s.showRule, moderator)
	e.PUT("/v1/moderation/rules/:id", s.putRule, moderator)
	e.GET("/v1/moderation/rules/:id/diff", s.diffRule, moderator)
	e.GET("/v1/moderation/rules/:id/hits", s.listHits, moderator)
	e.POST("/v1/moderation/rules/:id/mode", s.setMode, moderator)
	e.GET("/v1/moderation/rules/:id/versions", s.listRuleVersions, moderator)
	e.POST("/v1/me/appeals", s.appeal, token.Require(s.deps.Verifier))
	e.GET("/v1/me/appeals", s.listAppeals, token.Require(s.deps.Verifier))
	tester := token.Require(s.deps.Verifier, token.RoleModerator, token.RoleAnalyst)
	e.POST("/v1/backtests", s.requestBacktest, tester, web.BodyLimit(rule.MaxBytes))
	e.GET("/v1/backtests", s.listBacktests, tester)
	e.GET("/v1/backtests/:id", s.showBacktest, tester)
	e.DELETE("/v1/backtests/:id", s.cancelBacktest, tester)
	e.GET("/internal/users/:id/flags", s.listFlagsOfUser, moderator)
	operate.Source(s.Subscriptions).Mount(e, "fraud", s.deps.Verifier)

	checks := health.New(s.deps.Logger)
	s.AddChecks(checks)
	checks.Mount(e)
	if s.deps.Metrics != nil {
		e.GET("/metrics", echo.WrapHandler(metrics.Handler(s.deps.Metrics)))
	}
	return e
}

// Handler serves the service's routes, and its health and metrics.
func (s *Service) Handler() http.Handler { return s.handler }

// Run follows the logs until ctx ends and what is in progress has been worked
// through. Nothing else ends it.
func (s *Service) Run(ctx context.Context) error {
	return run.Group(ctx, s.own.Run, s.worker.Run, s.erasures.Run, s.tidy, func(ctx context.Context) error {
		if err := s.prepare(ctx); err != nil {
			return err
		}
		err := run.Group(ctx, s.activity.Run, s.raiser.keep, s.raiser.snapshots.run, s.ordered.follow, s.ordered.makeCuts, s.reload, s.watch, s.expire)
		last := context.WithoutCancel(ctx)
		err = errors.Join(err, s.raiser.finish(last), s.ordered.finish(last))
		s.raiser.snapshots.finish(last)
		return err
	})
}

// tidy keeps the vault tidy.
func (s *Service) tidy(ctx context.Context) error {
	vault.KeepTidy(ctx, s.deps.Logger, func(ctx context.Context) error { return s.deps.Vault.Tidy(ctx, s.deps.Clock()) })
	return nil
}

// CatchUp returns once flags are raised for everything that was in the activity log
// when it was called, by the rules as they were then, and are in the answers, and what
// was written about who was erased by then is gone; or with ctx's error.
func (s *Service) CatchUp(ctx context.Context) error {
	if err := s.erasures.CatchUp(ctx); err != nil {
		return err
	}
	if err := s.own.CatchUp(ctx); err != nil {
		return err
	}
	revision, _ := s.rules.Revision()
	if err := s.raiser.reloads.wait(ctx, revision); err != nil {
		return err
	}
	if err := errors.Join(s.activity.CatchUp(ctx), s.ordered.reach(ctx, revision)); err != nil {
		return err
	}
	return s.own.CatchUp(ctx)
}

// catchUp brings the board up to the fraud log's end.
func (s *Service) catchUp(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, catchUpTimeout)
	defer cancel()
	if err := s.own.CatchUp(ctx); err != nil {
		return fmt.Errorf("%w: %w", problem.Unavailable("the flags cannot be read right now", retryAfter), err)
	}
	return nil
}

// AddChecks adds what the service needs to be ready: its logs and its vault answer, what it
// follows has caught up and does not stand still, and the rules are loaded.
func (s *Service) AddChecks(r *health.Registry) {
	r.Add("fraud-subscriptions", operate.Source(s.Subscriptions).Check())
	r.Add("fraud-log", func(ctx context.Context) (any, error) {
		_, err := s.deps.Log.Head(ctx, 0)
		return nil, err
	})
	r.Add("fraud-vault", func(ctx context.Context) (any, error) {
		_, err := s.deps.Vault.Keys(ctx, uuid.Max) // nobody's
		return nil, err
	})
	r.Add("fraud-rules", func(ctx context.Context) (any, error) {
		if s.raiser.program.Load() == nil {
			return nil, errors.New("the rules are not loaded yet")
		}
		_, err := s.deps.Activity.Head(ctx, 0)
		return nil, err
	})
	r.Add("fraud-order", s.checkOrder)
}

// checkOrder says how far ordered rules have come, and why they stand still if they do.
func (s *Service) checkOrder(context.Context) (any, error) {
	tip, _ := s.ordered.tip.Last()
	at, _ := s.ordered.stands()
	if at.idle {
		return nil, at.err
	}
	return map[string]uint64{"cuts": tip.Number, "worked_through": at.cut}, at.err
}

// Subscriptions are those that the service runs.
func (s *Service) Subscriptions() []*subscription.Subscription {
	return []*subscription.Subscription{s.own, s.activity, s.erasures}
}

package projections

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
)

// edition is one version of the read models and what keeps it up to date.
type edition struct {
	version int // 0 if there are no versions
	store   views.Store
	sub     *subscription.Subscription
	close   func() error // lets go of the bus

	stop    context.CancelFunc
	running sync.WaitGroup
}

// edit makes an edition; group names it on the bus. It does no I/O.
func (s *Service) edit(version int, store views.Store, ledger subscription.Ledger) (*edition, error) {
	group := versions.Group(max(version, versions.First))
	e := &edition{version: version, store: store, close: func() error { return nil }}
	follow := subscription.Config{
		Log: s.deps.Activity, Group: group, Ledger: ledger, Logger: s.deps.Logger, Clock: s.deps.Clock,
		Handler: views.Handler(store),
	}
	if s.deps.Follow != nil {
		if ledger == nil {
			group = "" // each instance needs every message
		}
		bus, err := s.deps.Follow(group)
		if err != nil {
			return nil, fmt.Errorf("follow the activity log: %w", err)
		}
		follow.Bus = bus
		if version > 0 {
			e.close = bus.Close // it is this edition's own
		}
	}
	e.sub = subscription.New(follow)
	return e, nil
}

// begin follows the log until end.
func (e *edition) begin(ctx context.Context) {
	ctx, e.stop = context.WithCancel(ctx)
	e.running.Go(func() { _ = e.sub.Run(ctx) }) // it ends with ctx and has no error
}

// end returns when what is in progress has been worked through.
func (e *edition) end() error {
	e.stop()
	e.running.Wait()
	return e.close()
}

// Run follows the activity log until ctx ends and what is in progress has been
// worked through, and changes over to another version of the read models when that
// one is to be served. It also follows it for those who are connected. Nothing else
// ends it.
func (s *Service) Run(ctx context.Context) error {
	var telling sync.WaitGroup
	telling.Go(func() { _ = s.notices.Run(ctx) }) // it ends with ctx and has no error
	defer telling.Wait()
	if s.deps.Versions == nil {
		return s.current.Load().sub.Run(ctx)
	}
	tick := time.NewTicker(s.cfg.LookEvery)
	defer tick.Stop()
	defer func() {
		for _, e := range s.editions() {
			s.retire(e)
		}
	}()
	failed := false
	for {
		err := s.look(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failed {
			s.deps.Logger.WarnContext(ctx, "projections: cannot change over to the version of the read models that is to be served, trying again", "error", err)
		}
		failed = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look changes over if another version is to be served than is.
func (s *Service) look(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	version, err := s.deps.Versions.Serving(asking)
	if err != nil {
		return err
	}
	old := s.current.Load()
	if old != nil && old.version == version {
		return nil
	}
	next, err := s.edit(version, s.deps.Versions.Store(version), s.deps.Versions.Ledger())
	if err != nil {
		return err
	}
	s.follow(ctx, next)
	if old == nil {
		s.current.Store(next)
		close(s.known)
		return nil
	}
	if err := s.exchange(ctx, next); err != nil {
		s.retire(next)
		return fmt.Errorf("version %d: %w", version, err)
	}
	s.retire(old)
	s.deps.Logger.InfoContext(ctx, "projections: changed over", "from", old.version, "to", version)
	return nil
}

// exchange has requests answered from next, once it holds all that any of them may
// have seen: it catches up, then nobody is let in until it has caught up with what
// has come meanwhile.
func (s *Service) exchange(ctx context.Context, next *edition) error {
	catching, cancel := context.WithTimeout(ctx, s.cfg.CatchUpTimeout)
	defer cancel()
	if err := next.sub.CatchUp(catching); err != nil {
		return err
	}
	swapping, cancel := context.WithTimeout(ctx, swapTimeout)
	defer cancel()
	defer s.door.open()
	if err := s.door.shut(swapping); err != nil {
		return fmt.Errorf("wait for readers: %w", err)
	}
	if err := next.sub.CatchUp(swapping); err != nil {
		return err
	}
	s.current.Store(next)
	return nil
}

// follow has the edition follow the log, and retire ends that.
func (s *Service) follow(ctx context.Context, e *edition) {
	e.begin(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, e)
}

func (s *Service) retire(e *edition) {
	if err := e.end(); err != nil {
		s.deps.Logger.Warn("projections: could not let go of the bus", "version", e.version, "error", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.running {
		if s.running[i] == e {
			s.running = append(s.running[:i:i], s.running[i+1:]...)
			return
		}
	}
}

func (s *Service) editions() []*edition {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*edition(nil), s.running...)
}

// errUnknown says that nobody has told yet which version is to be served.
var errUnknown = errors.New("it is not known yet which version of the read models serves")

// read calls ask with the store that is served at present.
func read[T any](ctx context.Context, s *Service, ask func(views.Store) (T, error)) (T, error) {
	var none T
	if err := s.door.enter(ctx); err != nil {
		return none, err
	}
	defer s.door.leave()
	e := s.current.Load()
	if e == nil {
		return none, fmt.Errorf("%w: %w", views.ErrUnavailable, errUnknown)
	}
	return ask(e.store)
}

// query is a list of the store that is served at present.
func query[V any](s *Service, of func(views.Store, context.Context, uuid.UUID, views.Page) ([]V, error)) func(context.Context, uuid.UUID, views.Page) ([]V, error) {
	return func(ctx context.Context, user uuid.UUID, p views.Page) ([]V, error) {
		return read(ctx, s, func(store views.Store) ([]V, error) { return of(store, ctx, user, p) })
	}
}

package fraud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/register"
)

// ruleStream is the stream of a rule's events.
func ruleStream(id string) uuid.UUID { return register.Stream(id) }

// prepare has the log say what the rule book says, as far as that has a say, and
// starts the engines with what is to run then. It tries until it succeeds or ctx ends.
func (s *Service) prepare(ctx context.Context) error {
	return s.insist(ctx, "the rules cannot be loaded yet, trying again", func() error {
		if err := s.own.CatchUp(ctx); err != nil {
			return err
		}
		if err := s.seed(ctx); err != nil {
			return err
		}
		if err := s.settle(ctx); err != nil {
			return err
		}
		return s.raiser.start(ctx, s.planRules())
	})
}

// insist calls try until it succeeds or ctx ends, with pauses.
func (s *Service) insist(ctx context.Context, complaint string, try func() error) error {
	const wait, most = 50 * time.Millisecond, 5 * time.Second
	for pause := wait; ; pause = min(2*pause, most) {
		err := try()
		if err == nil || ctx.Err() != nil {
			return err
		}
		s.deps.Logger.WarnContext(ctx, complaint, "error", err)
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

// seed appends what the rule book adds to the log. Where another instance is quicker
// it looks again.
func (s *Service) seed(ctx context.Context) error {
	for range maxTries {
		appends, err := s.rules.Seed(s.cfg.Rules, s.deps.Activity.Partitions(), s.deps.Clock())
		if err != nil || len(appends) == 0 {
			return err
		}
		for _, evs := range appends {
			if _, err := s.deps.Log.Append(ctx, evs...); err != nil && !errors.Is(err, log.ErrConflict) {
				return fmt.Errorf("take in the rule book: %w", err)
			}
		}
		if err := s.own.CatchUp(ctx); err != nil {
			return err
		}
	}
	// It is others who change these rules, and what they made of them counts.
	s.deps.Logger.WarnContext(ctx, "the rule book is not taken in whole: others keep changing its rules")
	return nil
}

// settle puts on record where announced changes of rules take effect.
func (s *Service) settle(ctx context.Context) error {
	if err := s.own.CatchUp(ctx); err != nil {
		return err
	}
	for range maxTries {
		announced := s.rules.Announced()
		if len(announced) == 0 {
			return nil
		}
		if err := register.Settle(ctx, s.deps.Log, s.deps.Activity, announced, s.deps.Clock()); err != nil {
			return err
		}
		if err := s.own.CatchUp(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("where rules take effect is not settled: others changed them %d times meanwhile", maxTries)
}

// changeRule appends the event that next makes of the rules as they are, if that has a
// type, and sees to it that it takes effect. If somebody else was quicker it starts
// over. It says whether anything was appended.
func (s *Service) changeRule(ctx context.Context, next func() (events.Event, error)) (changed bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for range maxTries {
		if err := s.catchUp(ctx); err != nil {
			return false, err
		}
		e, err := next()
		if err != nil || e.Type == "" {
			return false, err
		}
		e.ID = s.deps.NewID()
		_, err = s.deps.Log.Append(ctx, e)
		switch {
		case errors.Is(err, log.ErrConflict):
			continue
		case err != nil:
			return false, unavailable(err)
		}
		// It is done. That the rest waits for somebody else changes nothing about that.
		if err := s.settle(ctx); err != nil {
			s.deps.Logger.WarnContext(ctx, "where a changed rule takes effect is not on record yet", "error", err)
		}
		return true, s.catchUp(ctx)
	}
	return false, errBusyRule
}

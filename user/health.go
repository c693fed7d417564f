package user

import (
	"context"
	"errors"

	"github.com/google/uuid"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/operate"
)

// AddChecks adds what the service needs to be ready: its start is done, the log
// and the vault answer, and what it follows does not stand still.
func (s *Service) AddChecks(r *health.Registry) {
	r.Add("user-start", func(context.Context) (any, error) {
		if !s.started.Load() {
			return nil, errors.New("keys and first admin are not made yet")
		}
		return nil, nil
	})
	r.Add("user-subscriptions", operate.Source(s.Subscriptions).Check())
	r.Add("user-log", func(ctx context.Context) (any, error) {
		_, err := s.log.Head(ctx, 0)
		return nil, err
	})
	r.Add("user-vault", func(ctx context.Context) (any, error) {
		_, err := s.vault.Keys(ctx, uuid.Max) // nobody's
		return nil, err
	})
}

// Subscriptions are those that the service runs.
func (s *Service) Subscriptions() []*subscription.Subscription { return s.subscriptions }

package user

import (
	"context"
	"sync"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// dropChangedCards handles what other instances write: every instance follows
// the user log on its own, from its end on.
func (s *Service) dropChangedCards(_ context.Context, b subscription.Batch) error {
	for _, e := range b.Events {
		if e.Type == events.UserProfileChanged || e.Type == events.UserErased {
			s.cards.drop(e.Stream)
		}
	}
	return nil
}

// finishErasures destroys the secrets of users whose erasure is in the log,
// whatever became of the request that wrote it.
func (s *Service) finishErasures(ctx context.Context, b subscription.Batch) error {
	for _, e := range b.Events {
		if e.Type == events.UserErased {
			if err := s.vault.Erase(ctx, e.Stream); err != nil {
				return err
			}
		}
	}
	return nil
}

// fromEnd is the checkpoints of a subscription that begins at the log's end:
// what was before is in no cache once it has begun.
type fromEnd struct {
	log   log.Reader
	begin func()

	mu    sync.Mutex
	begun bool
	start uint64
}

// Load returns the log's head as it is on the first call.
func (f *fromEnd) Load(ctx context.Context, _, _ string, partition int) (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun {
		return f.start, nil
	}
	head, err := f.log.Head(ctx, partition)
	if err != nil {
		return 0, err
	}
	f.begin()
	f.start, f.begun = head, true
	return head, nil
}

// Save keeps nothing: the next process begins at its own end.
func (f *fromEnd) Save(context.Context, string, string, int, uint64) error { return nil }

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

// fromEnd is the ledger of a subscription that begins at the log's end: what was
// before is in no cache once it has begun. The next process begins at its own.
type fromEnd struct {
	*subscription.Memory
	log   log.Reader
	begin func()

	mu    sync.Mutex
	begun map[subscription.Place]bool
}

func newFromEnd(l log.Reader, begin func()) *fromEnd {
	return &fromEnd{Memory: subscription.NewMemory(), log: l, begin: begin, begun: make(map[subscription.Place]bool)}
}

// Load returns the log's head on the first call.
func (f *fromEnd) Load(ctx context.Context, at subscription.Place) (subscription.Checkpoint, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.begun[at] {
		head, err := f.log.Head(ctx, at.Partition)
		if err != nil {
			return subscription.Checkpoint{}, err
		}
		f.begin()
		if err := f.Save(ctx, subscription.Checkpoint{Place: at, Sequence: head}); err != nil {
			return subscription.Checkpoint{}, err
		}
		f.begun[at] = true
	}
	return f.Memory.Load(ctx, at)
}

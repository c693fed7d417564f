package mongostore

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/meet5/backend/projections/views"
)

// Apply implements views.Store. Visits and likes are brought in side by side.
func (s *Store) Apply(ctx context.Context, b views.Batch) error {
	if err := s.apply(ctx, b); err != nil {
		return fmt.Errorf("apply %d to %d of partition %d: %w", b.First, b.Last, b.Partition, err)
	}
	return nil
}

func (s *Store) apply(ctx context.Context, b views.Batch) error {
	s.registry.begin(b)
	marks := marksOf(b.Changes)
	if len(marks) > 0 {
		if err := s.settleHidden(ctx, marks); err != nil {
			return err
		}
	}
	var visits, likes error
	var wg sync.WaitGroup
	wg.Go(func() { visits = s.applyVisits(ctx, b, marks) })
	likes = s.applyLikes(ctx, b, marks)
	wg.Wait()
	if err := errors.Join(visits, likes); err != nil {
		return err
	}
	s.registry.end(b)
	return nil
}

// applyVisits keeps the order that the package comment rests on: pairs, then marks.
func (s *Store) applyVisits(ctx context.Context, b views.Batch, marks []mark) error {
	if groups := byPair(b.Changes, views.Visited); len(groups) > 0 {
		done := false
		if len(groups) <= smallCall {
			var err error
			if done, err = s.addVisits(ctx, b.Partition, groups); err != nil {
				return err
			}
		}
		if !done {
			if err := settlePairs[visitDoc](ctx, s, s.visits, b.Partition, groups); err != nil {
				return err
			}
		}
	}
	return s.markPairs(ctx, s.visits, marks)
}

// applyLikes keeps it for likes, then for the matches that follow from them.
func (s *Store) applyLikes(ctx context.Context, b views.Batch, marks []mark) error {
	groups := byPair(b.Changes, views.Liked, views.Withdrawn)
	if len(groups) > 0 {
		if err := settlePairs[likeDoc](ctx, s, s.likes, b.Partition, groups); err != nil {
			return err
		}
	}
	if err := s.markPairs(ctx, s.likes, marks); err != nil {
		return err
	}
	if len(groups) > 0 {
		if err := s.settleMatches(ctx, groups); err != nil {
			return err
		}
	}
	return s.markMatches(ctx, marks)
}

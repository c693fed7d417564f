package register

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// maxTries bounds how often a change is tried again because others have changed the
// rules meanwhile.
const maxTries = 8

// Read folds the fraud log as it stands.
func Read(ctx context.Context, fraud log.Reader) (*Register, error) {
	g := New()
	for p := range fraud.Partitions() {
		for e, err := range log.Events(ctx, fraud, p, 0) {
			if err != nil {
				return nil, fmt.Errorf("read the rules: %w", err)
			}
			g.Apply(e)
		}
	}
	return g, nil
}

// Commit appends the event that next makes of the rules as they stand, if that has a
// type, and puts on record where it takes effect. If somebody else was quicker it
// starts over. It returns the rules as they are then, and whether they were changed.
// For those who do not follow the fraud log.
func Commit(ctx context.Context, fraud *log.Log, activity log.Reader, now func() time.Time, next func(*Register) (events.Event, error)) (*Register, bool, error) {
	changed := false
	for range maxTries {
		g, err := Read(ctx, fraud)
		if err != nil {
			return nil, changed, err
		}
		if !changed {
			e, err := next(g)
			if err != nil || e.Type == "" {
				return g, false, err
			}
			e.ID = uuid.Must(uuid.NewV7())
			if _, err := fraud.Append(ctx, e); err != nil && !errors.Is(err, log.ErrConflict) {
				return nil, false, fmt.Errorf("change a rule: %w", err)
			} else if err != nil {
				continue
			}
			changed = true
			if g, err = Read(ctx, fraud); err != nil {
				return nil, changed, err
			}
		}
		announced := g.Announced()
		if len(announced) == 0 {
			return g, changed, nil
		}
		if err := Settle(ctx, fraud, activity, announced, now()); err != nil {
			return nil, changed, err
		}
	}
	return nil, changed, errors.New("others keep changing the rules")
}

// Settle puts on record where the announced changes of these rules take effect: after
// the activity log's heads as they are now. Another instance may be at it, too: what
// it has written counts.
func Settle(ctx context.Context, fraud *log.Log, activity log.Reader, announced []Rule, now time.Time) error {
	heads := make([]uint64, activity.Partitions())
	for p := range heads {
		var err error
		if heads[p], err = activity.Head(ctx, p); err != nil {
			return fmt.Errorf("read the head of %s/%d: %w", activity.Name(), p, err)
		}
	}
	for _, k := range announced {
		e, err := k.TakeEffect(heads, now)
		if err != nil {
			return err
		}
		if _, err := fraud.Append(ctx, e); err != nil && !errors.Is(err, log.ErrConflict) {
			return fmt.Errorf("put on record where rule %s takes effect: %w", k.ID, err)
		}
	}
	return nil
}

package register

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/meet5/backend/events/log"
)

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

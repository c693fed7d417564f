package vault

import (
	"context"
	"log/slog"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
)

// TidyEvery is how often KeepTidy tidies.
const TidyEvery = time.Hour

// Erasures is the handler of a subscription to the user log that erases from the vault
// who is erased there, whatever became of the request that wrote it.
func Erasures(v Vault) subscription.Handler {
	return func(ctx context.Context, b subscription.Batch) error {
		for _, e := range b.Events {
			if e.Type == events.UserErased {
				if err := v.Erase(ctx, e.Stream); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// KeepTidy tidies at once, and then every TidyEvery until ctx ends.
func KeepTidy(ctx context.Context, logger *slog.Logger, tidy func(context.Context) error) {
	tick := time.NewTicker(TidyEvery)
	defer tick.Stop()
	for {
		if err := tidy(ctx); err != nil && ctx.Err() == nil {
			logger.WarnContext(ctx, "could not tidy the vault, will try again", "in", TidyEvery, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

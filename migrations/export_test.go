package migrations

import (
	"context"
	"log/slog"
	"time"
)

// TryLock says whether a new run would get the lock, and takes it if so.
func TryLock(ctx context.Context, dbs Databases, clock func() time.Time) (bool, error) {
	return newLock(dbs, clock).try(ctx)
}

// KeepLock takes the lock as a new run, renews it at each tick, and returns why
// it lost it, or ctx's error. Held is called once it has the lock.
func KeepLock(ctx context.Context, dbs Databases, clock func() time.Time, tick <-chan time.Time, held func()) error {
	l := newLock(dbs, clock)
	if err := l.acquire(ctx, slog.New(slog.DiscardHandler)); err != nil {
		return err
	}
	held()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	l.keep(ctx, tick, cancel)
	return context.Cause(ctx)
}

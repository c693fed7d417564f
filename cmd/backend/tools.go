package backend

import (
	"context"
	"errors"
	"log/slog"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections"
	"github.com/meet5/backend/projections/versions"
	"github.com/meet5/backend/projections/views"
	"github.com/meet5/backend/user"
)

// Logs are the three logs, open for writing.
type Logs struct{ User, Activity, Fraud *log.Log }

func (l Logs) close() {
	l.Activity.Close()
	l.User.Close()
	l.Fraud.Close()
}

// Tools are the stores and logs without the services around them, for work that
// is done offline. What is appended is not announced on the bus: services that
// run notice it when they compare heads, about once a second.
type Tools struct {
	*Stores
	Logs Logs
	User *user.Service
}

// OpenTools opens the stores for a tool. The caller closes them.
func OpenTools(ctx context.Context, w Where, logger *slog.Logger) (*Tools, error) {
	s, err := Open(ctx, w, logger)
	if err != nil {
		return nil, err
	}
	t := &Tools{Stores: s, Logs: Logs{
		User:     log.New(s.User, log.Options{}),
		Activity: log.New(s.Activity, log.Options{}),
		Fraud:    log.New(s.Fraud, log.Options{}),
	}}
	if t.User, err = user.New(user.Config{}, user.Deps{Log: t.Logs.User, Fraud: t.Logs.Fraud, Activity: t.Logs.Activity, Vault: s.Vault, Logger: logger}); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close lets what is queued be written and closes the stores.
func (t *Tools) Close() error {
	t.Logs.close()
	return t.Stores.Close()
}

// CurrentViews returns the read models once they hold everything that is in the
// activity log. On files, where no read model outlives its process, they are
// folded now; on real services it waits for those that are kept there, and works
// on them itself if nobody does.
func (t *Tools) CurrentViews(ctx context.Context) (views.Store, error) {
	follow := subscription.Config{Log: t.Logs.Activity, Group: projections.Group}
	store := t.Views
	if t.Versions != nil {
		serving, err := t.Versions.Serving(ctx)
		if err != nil {
			return nil, err
		}
		store = t.Versions.Store(serving)
		follow.Group, follow.Ledger = versions.Group(serving), t.Versions.Ledger()
	}
	follow.Handler = views.Handler(store)
	s := subscription.New(follow)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx) // it ends with ctx and has no error
	}()
	err := s.CatchUp(ctx)
	cancel()
	<-done
	if err != nil {
		return nil, err
	}
	return store, nil
}

package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
)

// writer is an instance of the activity service within this process, beside the
// others. The clock of a process cannot be set without setting the machine's; this
// one's can.
type writer struct {
	ahead    atomic.Int64 // nanoseconds that its clock is ahead
	listener net.Listener
	stop     context.CancelFunc
	ended    sync.WaitGroup
	said     tail
	err      error // why it ended, once ended
}

// newWriter listens; serve makes it work.
func newWriter() (*writer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the writer with a clock of its own: %w", err)
	}
	return &writer{listener: l, stop: func() {}}, nil
}

func (w *writer) url() string { return "http://" + w.listener.Addr().String() }

func (w *writer) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// set puts the clock ahead by d, or back.
func (w *writer) set(d time.Duration) { w.ahead.Store(int64(d)) }

// serve begins to take activities. Tokens are believed that the user services
// have signed, by the right time.
func (w *writer) serve(stores *backend.Stores, users []string) error {
	logger := slog.New(slog.NewTextHandler(&w.said, &slog.HandlerOptions{Level: slog.LevelWarn}))
	feed := bus.NewFeed(stores.Publisher, bus.FeedOptions{Logger: logger})
	activities := log.New(stores.Activity, log.Options{Clock: w.now, Committed: feed.Offer, Linger: log.DefaultLinger})
	keys := make([]string, len(users))
	for i, u := range users {
		keys[i], _ = url.JoinPath(u, ".well-known", "jwks.json") // they are our own
	}
	s, err := activity.New(activity.Config{}, activity.Deps{
		Log: activities, Users: stores.User, Ledger: stores.Ledgers[activityService], Follow: stores.Follow, Clock: w.now, Logger: logger,
		Verifier: token.NewVerifier(token.NewRemoteKeySet(keys, &http.Client{Timeout: answerWithin}, time.Now), time.Now),
	})
	if err != nil {
		activities.Close()
		return fmt.Errorf("the writer with a clock of its own: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	w.ended.Go(func() {
		defer activities.Close()
		w.err = run.Group(ctx, s.Run, feed.Run, func(ctx context.Context) error {
			return run.HTTP(ctx, run.Server{Listener: w.listener, Handler: s.Handler()})
		})
	})
	return nil
}

func (w *writer) close() error {
	w.stop()
	w.ended.Wait()
	_ = w.listener.Close() // in case it never served
	return w.err
}

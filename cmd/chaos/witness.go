package chaos

import (
	"context"
	"fmt"
	"log/slog"
	"sync"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/cmd/history"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// witnessGroup is the witness's own, on the bus and in the history.
const witnessGroup = "chaos-witness"

// witness follows every log from its beginning, as a service does, through the
// same proxies, and records what it is handed.
type witness struct {
	follows []*subscription.Subscription
	stop    context.CancelFunc
	running sync.WaitGroup
}

func newWitness(stores *backend.Stores, recorder *history.Recorder) (*witness, error) {
	w := &witness{}
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	for _, l := range []log.Store{stores.User, stores.Activity, stores.Fraud} {
		bus, err := stores.Follow(witnessGroup)
		if err != nil {
			stop()
			return nil, fmt.Errorf("follow the %s log: %w", l.Name(), err)
		}
		recorder.Complete(witnessGroup, l.Name())
		s := subscription.New(subscription.Config{
			Log: l, Group: witnessGroup, Bus: bus, Logger: slog.New(slog.DiscardHandler),
			Handler: func(_ context.Context, b subscription.Batch) error {
				for _, e := range b.Events {
					recorder.Deliver(witnessGroup, b.Log, e)
				}
				return nil
			},
		})
		w.follows = append(w.follows, s)
		w.running.Go(func() { _ = s.Run(ctx) }) // it ends with ctx and has no error
	}
	return w, nil
}

// catchUp returns once the witness has been handed everything.
func (w *witness) catchUp(ctx context.Context) error {
	for _, s := range w.follows {
		if err := s.CatchUp(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (w *witness) close() {
	w.stop()
	w.running.Wait()
}

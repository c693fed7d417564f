package bench

import (
	"context"

	"github.com/meet5/backend/events/log"
)

const (
	// manyWriters write to the same partitions.
	manyWriters = 8
	// writersCallers bring the load, the same for one writer and for many, in
	// batches of batchEvents. Each goes over all partitions in turn.
	writersCallers = 2 * manyWriters * partitions
)

// appendWriters is what many writers on the same partitions get done, in events a
// second, beside one writer with the same callers. The gateway's affinity makes this
// the rare case.
var appendWriters = Work{
	Name:    "append-writers",
	Ours:    "8 writers on the same 16 partitions of MongoDB, 256 callers in batches of 250, each over all partitions in turn",
	Limit:   "one writer with the same callers",
	Figures: []Figure{{Unit: "events/s", Target: Target{Ratio: 0.5}}},
	Mongo:   true,
	open: func(ctx context.Context, s *site) (turn, error) {
		many, err := newWriters(ctx, s, "many", manyWriters)
		if err != nil {
			return nil, err
		}
		one, err := newWriters(ctx, s, "one", 1)
		if err != nil {
			return nil, err
		}
		return alternate(many, one), nil
	},
}

// newWriters is so many writers on a log of their own.
func newWriters(ctx context.Context, s *site, name string, n int) (side, error) {
	store, err := newMongoLog(ctx, s.database(name))
	if err != nil {
		return nil, err
	}
	logs := make([]*log.Log, n)
	for i := range logs {
		logs[i] = log.New(store, log.Options{Linger: log.DefaultLinger})
		s.onClose(func(context.Context) error { logs[i].Close(); return nil })
	}
	load := s.newBatches(writersCallers, 1)
	turns := make([]int, writersCallers)
	return func(ctx context.Context) (float64, error) {
		return loop(ctx, writersCallers, s.For, func(ctx context.Context, caller int) (int, error) {
			turns[caller]++
			return load.append(ctx, logs[caller%n], caller, (caller/n+turns[caller])%partitions)
		})
	}, nil
}

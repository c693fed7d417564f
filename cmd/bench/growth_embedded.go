package bench

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
)

// growthRead is how many events at a log's end are read at a time.
const growthRead = 100_000

// growthEmbedded is whether a long log in a file costs more than a short one, in
// events a second: appends in batches, and reading the last events.
var growthEmbedded = Work{
	Name:  "growth-embedded",
	Ours:  "on a log of 10,000,000 events in a file",
	Limit: "the same work on a log of 100,000 events",
	Figures: []Figure{
		{Name: "append", Unit: "events/s", Target: Target{Ratio: growthTarget}},
		{Name: "read at the end", Unit: "events/s", Target: Target{Ratio: growthTarget}},
	},
	Long: true,
	open: func(ctx context.Context, s *site) (turn, error) {
		dir, err := s.folder()
		if err != nil {
			return nil, err
		}
		size := s.scaled(longLog, partitions)
		long, err := openBolt(s, filepath.Join(dir, "long.db"))
		if err != nil {
			return nil, err
		}
		if _, err := fill(ctx, long, size, newHistory().past); err != nil {
			return nil, err
		}
		l := log.New(long, log.Options{})
		s.onClose(func(context.Context) error { l.Close(); return nil })
		load := s.newBatches(batchCallers, 100)
		return func(ctx context.Context) (pairs []Pair, err error) {
			var app, read Pair
			n := s.scaled(growthAppends, 1)
			if app.Ours, err = appendRate(ctx, l, load, n); err != nil {
				return nil, err
			}
			if read.Ours, err = s.readEnd(ctx, long); err != nil {
				return nil, err
			}
			app.Limit, read.Limit, err = s.shortFile(ctx, filepath.Join(dir, fresh("short")), n)
			return []Pair{app, read}, err
		}, nil
	},
}

// shortFile does the same on a short log in a file that is made off the clock.
func (s *site) shortFile(ctx context.Context, path string, n int) (appended, read float64, err error) {
	db, err := boltlog.Open(path)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	short, err := db.Log(events.ActivityLog, partitions)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fill(ctx, short, s.scaled(shortLog, partitions), newHistory().past); err != nil {
		return 0, 0, err
	}
	l := log.New(short, log.Options{})
	defer l.Close()
	if appended, err = appendRate(ctx, l, s.newBatches(batchCallers, 100), n); err != nil {
		return 0, 0, err
	}
	read, err = s.readEnd(ctx, short)
	return appended, read, err
}

// readEnd reads the last events of every partition.
func (s *site) readEnd(ctx context.Context, store *boltlog.Store) (float64, error) {
	heads, err := heads16(ctx, store)
	if err != nil {
		return 0, err
	}
	per := uint64(s.scaled(growthRead, partitions) / partitions) //nolint:gosec // not negative
	return rateFor(s.For, func() (n int, err error) {
		for p, head := range heads {
			after := head - min(per, head)
			for e, err := range log.Events(ctx, store, p, after) {
				if err != nil {
					return n, err
				}
				if n++; e.Sequence <= after {
					return n, fmt.Errorf("read %d after %d", e.Sequence, after)
				}
			}
		}
		return n, nil
	})
}

package bench

import (
	"context"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/mongolog"
	"github.com/meet5/backend/projections/mongostore"
)

// growthFolded is how many events a turn brings into the read models of each log.
const growthFolded = 40_000

// growthMongo is whether a long log costs more than a short one, in events a second:
// appends in batches, and reading what is new at the log's end and folding it into
// read models that hold all that was before, half of it in new pairs and half in old
// ones. The short log grows with the turns, to twice its length.
var growthMongo = Work{
	Name:  "growth",
	Ours:  "on a log of 10,000,000 events in MongoDB, with its read models",
	Limit: "the same work on a log of 100,000 events",
	Figures: []Figure{
		{Name: "append", Unit: "events/s", Target: Target{Ratio: growthTarget}},
		{Name: "fold at the end", Unit: "events/s", Target: Target{Ratio: growthTarget}},
	},
	Mongo: true, Long: true,
	open: func(ctx context.Context, s *site) (turn, error) {
		long, err := newGrown(ctx, s, "long", s.scaled(longLog, partitions*growthPeriod))
		if err != nil {
			return nil, err
		}
		short, err := newGrown(ctx, s, "short", s.scaled(shortLog, partitions*growthPeriod))
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) (pairs []Pair, err error) {
			var fold, app Pair
			n := s.scaled(growthFolded, partitions)
			if fold.Ours, err = long.fold(ctx, n); err != nil {
				return nil, err
			}
			if fold.Limit, err = short.fold(ctx, n); err != nil {
				return nil, err
			}
			n = s.scaled(growthAppends, 1)
			if app.Ours, err = appendRate(ctx, long.log, long.load, n); err != nil {
				return nil, err
			}
			app.Limit, err = short.appendAnew(ctx, s, n)
			return []Pair{app, fold}, err
		}, nil
	},
}

// grown is a log with a history, and read models that hold it.
type grown struct {
	size    int
	store   *mongolog.Store
	log     *log.Log
	load    *batches
	history *history
	views   *mongostore.Store
}

func newGrown(ctx context.Context, s *site, name string, size int) (*grown, error) {
	g := &grown{size: size, history: newHistory(), load: s.newBatches(batchCallers, 100)}
	var err error
	if g.store, err = newMongoLog(ctx, s.database(name)); err != nil {
		return nil, err
	}
	if _, err := fill(ctx, g.store, size, g.history.past); err != nil {
		return nil, err
	}
	db := s.database(name + "_views")
	if err := mongostore.Create(ctx, db); err != nil {
		return nil, err
	}
	g.views = mongostore.Open(db)
	if err := foldInto(ctx, g.views, g.store, nil); err != nil {
		return nil, err
	}
	g.log = log.New(g.store, log.Options{Linger: log.DefaultLinger})
	s.onClose(func(context.Context) error { g.log.Close(); return nil })
	return g, nil
}

// fold writes n events to the end of the log, and then, on the clock, reads them
// and brings them into the read models.
func (g *grown) fold(ctx context.Context, n int) (float64, error) {
	heads, err := heads16(ctx, g.store)
	if err != nil {
		return 0, err
	}
	if n, err = fill(ctx, g.store, n, g.history.after); err != nil {
		return 0, err
	}
	start, err := startAt(ctx, g.store, heads)
	if err != nil {
		return 0, err
	}
	return clocked(func() (int, error) { return n, foldInto(ctx, g.views, g.store, start) })
}

// appendAnew appends to another log of the same length, made off the clock, so that
// a short log stays short.
func (g *grown) appendAnew(ctx context.Context, s *site, n int) (rate float64, err error) {
	db := s.database("anew")
	if err := db.Drop(ctx); err != nil {
		return 0, err
	}
	store, err := newMongoLog(ctx, db)
	if err != nil {
		return 0, err
	}
	if _, err := fill(ctx, store, g.size, newHistory().past); err != nil {
		return 0, err
	}
	l := log.New(store, log.Options{Linger: log.DefaultLinger})
	defer l.Close()
	return appendRate(ctx, l, g.load, n)
}

package migrations

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	migrate "github.com/xakep666/mongo-migrate"
	"go.mongodb.org/mongo-driver/v2/bson"
	"go.mongodb.org/mongo-driver/v2/mongo"
)

// recordsCollection holds one document for each step that ran.
const recordsCollection = "migrations"

// Options of a Runner. The zero value is fit for use.
type Options struct {
	// Steps are what to run; this build's Steps if nil.
	Steps []Step
	// Clock judges whether a lock's lease has ended; time.Now if nil.
	Clock func() time.Time
	// Logger is told of each step and of waiting; silent if nil.
	Logger *slog.Logger
}

// Runner runs the steps of one installation. Its methods are safe for concurrent
// use.
type Runner struct {
	dbs    Databases
	steps  []Step
	clock  func() time.Time
	logger *slog.Logger
}

// New makes a runner. It does no I/O. It fails if the steps are not in order.
func New(dbs Databases, opt Options) (*Runner, error) {
	r := &Runner{dbs: dbs, steps: opt.Steps, clock: opt.Clock, logger: opt.Logger}
	if r.steps == nil {
		r.steps = Steps()
	}
	if r.clock == nil {
		r.clock = time.Now
	}
	if r.logger == nil {
		r.logger = slog.New(slog.DiscardHandler)
	}
	for i, s := range r.steps {
		if s.Version == 0 || s.Name == "" || s.Up == nil {
			return nil, fmt.Errorf("step %s: it needs a version, a name and what to do", s)
		}
		if i > 0 && s.Version <= r.steps[i-1].Version {
			return nil, fmt.Errorf("step %s comes after step %s: give it a higher version", s, r.steps[i-1])
		}
	}
	return r, nil
}

// Status is what is known of one step.
type Status struct {
	Version uint64
	Name    string
	// AppliedAt is when the step had run; zero if it has not.
	AppliedAt time.Time
	// Unknown says that the step ran but is not one of this build's: a newer
	// build was here.
	Unknown bool
}

// Status lists the steps by version, those of newer builds included.
func (r *Runner) Status(ctx context.Context) ([]Status, error) {
	applied, err := r.applied(ctx)
	if err != nil {
		return nil, err
	}
	list := make([]Status, 0, len(r.steps))
	for _, s := range r.steps {
		list = append(list, Status{Version: s.Version, Name: s.Name, AppliedAt: applied[s.Version].AppliedAt})
		delete(applied, s.Version)
	}
	for version, a := range applied {
		list = append(list, Status{Version: version, Name: a.Name, AppliedAt: a.AppliedAt, Unknown: true})
	}
	slices.SortFunc(list, func(a, b Status) int { return cmp.Compare(a.Version, b.Version) })
	return list, nil
}

// Plan lists the steps that Up would run, in order. It fails if one of them comes
// too late: below a step that ran.
func (r *Runner) Plan(ctx context.Context) ([]Step, error) {
	applied, err := r.applied(ctx)
	if err != nil {
		return nil, err
	}
	return r.pending(applied)
}

func (r *Runner) pending(applied map[uint64]record) ([]Step, error) {
	newest := uint64(0)
	for version := range applied {
		newest = max(newest, version)
	}
	var steps []Step
	for _, s := range r.steps {
		if _, ran := applied[s.Version]; ran {
			continue
		}
		if s.Version < newest {
			return nil, fmt.Errorf("step %s has not run but the later step %d has: give it a version above that", s, newest)
		}
		steps = append(steps, s)
	}
	return steps, nil
}

// Up runs the steps that have not run, in order, and returns them. It waits until
// ctx ends for a run that is under way elsewhere. When a step fails, the steps
// before it stay and are returned, and those after it are not run.
func (r *Runner) Up(ctx context.Context) (ran []Step, err error) {
	l := newLock(r.dbs, r.clock)
	if err := l.acquire(ctx, r.logger); err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	defer func() { err = errors.Join(err, l.release(ctx)) }()

	ctx, cancel := context.WithCancelCause(ctx)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	var kept sync.WaitGroup
	kept.Go(func() { l.keep(ctx, tick.C, cancel) })
	defer kept.Wait()
	defer cancel(nil)

	steps, err := r.Plan(ctx)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	for _, s := range steps {
		if err := r.run(ctx, l, s); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				err = errors.Join(err, cause)
			}
			return ran, fmt.Errorf("migrate: %w", err)
		}
		ran = append(ran, s)
	}
	return ran, nil
}

// run runs one step and records it. The library is given one step that is known
// to be due at a time, since it takes the newest record by the recording host's
// clock for the version that the database has.
func (r *Runner) run(ctx context.Context, l *lock, s Step) error {
	begun := time.Now()
	one := migrate.NewMigrate(r.dbs.Log, migrate.Migration{
		Version:     s.Version,
		Description: s.Name,
		Up: func(ctx context.Context, _ *mongo.Database) error {
			if err := l.renew(ctx); err != nil {
				return err
			}
			if err := s.Up(ctx, r.dbs); err != nil {
				return err
			}
			return l.renew(ctx) // what is recorded was done under the lock
		},
	})
	one.SetMigrationsCollection(recordsCollection)
	if err := one.Up(ctx, 1); err != nil {
		return fmt.Errorf("step %s: %w", s, err)
	}
	r.logger.InfoContext(ctx, "step done", "version", s.Version, "name", s.Name, "took", time.Since(begun))
	return nil
}

// record is a document of the records collection, as the library writes it.
type record struct {
	Version   uint64    `bson:"version"`
	Name      string    `bson:"description"`
	AppliedAt time.Time `bson:"timestamp"`
}

// applied returns the first record of each step that ran.
func (r *Runner) applied(ctx context.Context) (map[uint64]record, error) {
	cur, err := r.dbs.Log.Collection(recordsCollection).Find(ctx, bson.D{})
	if err != nil {
		return nil, fmt.Errorf("read which steps ran: %w", err)
	}
	var records []record
	if err := cur.All(ctx, &records); err != nil {
		return nil, fmt.Errorf("read which steps ran: %w", err)
	}
	applied := make(map[uint64]record, len(records))
	for _, a := range records {
		if first, ok := applied[a.Version]; !ok || a.AppliedAt.Before(first.AppliedAt) {
			applied[a.Version] = a
		}
	}
	return applied, nil
}

package versions

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/mongostore"
	"github.com/meet5/backend/projections/views"
)

// soon is how long catching up may take for a version to be close enough to the
// log's head to serve; services catch up what comes meanwhile.
const soon = time.Second

// Progress is how far a version has come.
type Progress struct {
	Version int
	// Done and Total are numbers of events; those that were done before a rebuild
	// was gone on with count as done. Total grows with the log.
	Done, Total uint64
	// Rate is events a second since the start, and ETA how long the rest takes at
	// that rate; 0 while that is not known.
	Rate float64
	ETA  time.Duration
	// Parked is how many events had to be put aside, Failure what fails at present.
	Parked  int
	Failure string
}

// Result is what a rebuild or a switch has done.
type Result struct {
	From, To int // versions
	// Events were worked through by this run, within Took.
	Events uint64
	Took   time.Duration
	// Parked is how many events are put aside in the new version.
	Parked int
}

// Rebuild folds the log into a new version, or goes on with one that was begun,
// and has it serve. Report, if not nil, is told of the progress a few times a
// second, by one goroutine at a time. An outage that comes while it folds is waited
// out for as long as the lease lasts. When Rebuild fails or ctx ends, what is done stays and the next
// Rebuild goes on from there.
func (r *Registry) Rebuild(ctx context.Context, l log.Reader, report func(Progress)) (Result, error) {
	held, err := r.take(ctx, func(d *document) (int, time.Time, error) {
		if d.Work != nil && !d.has(d.Work.Version) {
			return d.Work.Version, d.Work.Started, nil // left unfinished
		}
		d.Last++
		return d.Last, r.now(), nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("rebuild the read models: %w", err)
	}
	result, err := held.work(ctx, l, report)
	if err != nil {
		return Result{}, fmt.Errorf("rebuild the read models: version %d: %w", held.version, err)
	}
	return result, nil
}

// Switch has a kept version serve again, once it has caught up with the log.
func (r *Registry) Switch(ctx context.Context, l log.Reader, version int, report func(Progress)) (Result, error) {
	held, err := r.take(ctx, func(d *document) (int, time.Time, error) {
		switch {
		case version == d.Serving:
			return 0, time.Time{}, fmt.Errorf("%w: it serves already", ErrRefused)
		case !d.has(version):
			return 0, time.Time{}, fmt.Errorf("%w: there is no such version; %s", ErrRefused, d.keptText())
		case d.Work != nil && !d.has(d.Work.Version):
			return 0, time.Time{}, fmt.Errorf("%w: a rebuild of version %d was left unfinished; finish it with another rebuild, or drop it", ErrRefused, d.Work.Version)
		}
		return version, r.now(), nil
	})
	if err != nil {
		return Result{}, fmt.Errorf("switch to version %d: %w", version, err)
	}
	result, err := held.work(ctx, l, report)
	if err != nil {
		return Result{}, fmt.Errorf("switch to version %d: %w", version, err)
	}
	return result, nil
}

func (d *document) has(version int) bool { return d.state().Has(version) }

// keptText says which versions there are besides the one that serves.
func (d *document) keptText() string {
	if len(d.Kept) == 0 {
		return fmt.Sprintf("there is only version %d, which serves", d.Serving)
	}
	numbers := make([]string, len(d.Kept))
	for i, k := range d.Kept {
		numbers[i] = fmt.Sprint(k.Version)
	}
	return fmt.Sprintf("version %d serves, kept are: %s", d.Serving, strings.Join(numbers, ", "))
}

// work makes what the version lacks, folds the log into it and has it serve.
func (l *lease) work(ctx context.Context, from log.Reader, report func(Progress)) (Result, error) {
	start := l.registry.opts.Clock()
	f := &fold{lease: l, log: from, report: report, start: start}
	if err := l.keeping(ctx, f.build); err != nil {
		l.release(ctx)
		return Result{}, err
	}
	// The lease is not renewed any more, but has just been, or nearly so: whether it
	// still holds shows when the last write is made.
	serving, cancel := context.WithTimeout(ctx, Lease)
	defer cancel()
	was, err := l.serve(serving)
	if err != nil {
		l.release(ctx)
		return Result{}, err
	}
	p := f.progress()
	return Result{From: was, To: l.version, Events: p.Done - f.before, Took: l.registry.opts.Clock().Sub(start), Parked: p.Parked}, nil
}

// keeping does something while it keeps the lease.
func (l *lease) keeping(ctx context.Context, do func(context.Context) error) error {
	ctx, lose := context.WithCancelCause(ctx)
	var keeping sync.WaitGroup
	keeping.Go(func() { l.keep(ctx, lose) })
	err := do(ctx)
	if cause := context.Cause(ctx); err != nil && errors.Is(cause, ErrLost) {
		err = cause // what failed, failed for that
	}
	lose(nil)
	keeping.Wait()
	return err
}

// build makes the version whole: collections, indexes, and what the log holds. The
// indexes come first: building them over what is there took longer than keeping
// them up (5 to 7.5 s in all against 3 to 3.5 s for 32,000 new pairs), and without
// them each actor who was hidden would cost a scan of everything.
func (f *fold) build(ctx context.Context) error {
	if err := mongostore.CreateVersion(ctx, f.registry.db, f.version); err != nil {
		return err
	}
	if err := f.run(ctx); err != nil {
		return err
	}
	return f.registry.Store(f.version).Check(ctx)
}

// fold brings a version up to the log's head.
type fold struct {
	*lease
	log    log.Reader
	report func(Progress)
	start  time.Time

	sub    *subscription.Subscription
	before uint64   // events that were done before
	heads  []uint64 // by partition, at the start
}

func (f *fold) run(ctx context.Context) error {
	r := f.registry
	for p := range f.log.Partitions() {
		c, err := r.ledger.Load(ctx, subscription.Place{Group: Group(f.version), Log: f.log.Name(), Partition: p})
		if err != nil {
			return err
		}
		f.before += c.Sequence
		head, err := f.log.Head(ctx, p)
		if err != nil {
			return err
		}
		f.heads = append(f.heads, head)
	}
	f.sub = subscription.New(subscription.Config{
		Log: f.log, Group: Group(f.version), Ledger: r.ledger, Handler: views.Handler(r.Store(f.version)),
		Logger: r.opts.Logger, Clock: r.opts.Clock,
	})
	running, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { _ = f.sub.Run(running) }) // ends with running and has no error
	wg.Go(func() { f.watch(running) })
	err := f.catchUp(ctx)
	stop()
	wg.Wait()
	f.tell()
	return err
}

// catchUp works through the log, and again through what has come meanwhile, until
// that is little.
func (f *fold) catchUp(ctx context.Context) error {
	for {
		begun := f.registry.opts.Clock()
		if err := f.sub.CatchUp(ctx); err != nil {
			return err
		}
		if f.registry.opts.Clock().Sub(begun) < soon {
			return nil
		}
	}
}

// watch tells of the progress until ctx ends.
func (f *fold) watch(ctx context.Context) {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			f.tell()
		}
	}
}

func (f *fold) tell() {
	p := f.progress()
	f.mu.Lock()
	f.last = p
	f.mu.Unlock()
	if f.report != nil {
		f.report(p)
	}
}

func (f *fold) progress() Progress {
	p := Progress{Version: f.version}
	var failures []string
	for i, s := range f.sub.Status() {
		p.Done += s.Position
		p.Total += max(f.heads[i], s.Head, s.Position)
		p.Parked += s.Parked
		if s.Failure != "" {
			failures = append(failures, "could not "+s.Failure)
		}
	}
	slices.Sort(failures)
	p.Failure = strings.Join(slices.Compact(failures), "; ")
	p.Done = max(p.Done, f.before)
	p.Total = max(p.Total, p.Done)
	if took := f.registry.opts.Clock().Sub(f.start).Seconds(); took > 0 {
		p.Rate = math.Round(float64(p.Done-f.before) / took)
	}
	if p.Rate > 0 {
		p.ETA = time.Duration(float64(p.Total-p.Done) / p.Rate * float64(time.Second)).Round(time.Second)
	}
	return p
}

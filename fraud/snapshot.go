package fraud

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Snapshots keeps what an instance has counted where it finds it when it starts again.
// It is a cache: what is in it follows from the logs, and all of it may be gone, old or
// damaged at any time, which costs time at the next start and nothing else.
type Snapshots interface {
	// Read opens what was saved last under a name; fs.ErrNotExist if there is nothing.
	Read(name string) (io.ReadCloser, error)
	// Save replaces it with what write writes: whole, or not at all, also if the power
	// fails.
	Save(name string, write func(io.Writer) error) error
}

const (
	// snapshotEvery is how often a partition's state is saved. What an instance that was
	// killed has to read again is what it has handled in so long, which takes no longer.
	snapshotEvery = 10 * time.Minute
	// snapshotWorth is how many events must have been handled since: fewer are read
	// again sooner than state is written, also at an orderly stop.
	snapshotWorth = 1000
	// snapshotAgain is how long after a failure it is tried again.
	snapshotAgain = time.Minute
	// snapshotLook is how often it is looked whether a snapshot is due.
	snapshotLook = time.Second
	// MaxSnapshot is how large the snapshot of a partition may be, in bytes. It is made
	// in memory, while the partition waits. Of one with more to keep none is taken.
	MaxSnapshot = 1 << 30
	// snapshotsBegun is how long after an orderly stop the last snapshot is begun.
	snapshotsBegun = 5 * time.Second
)

// snapshotter saves what lanes have counted, and has them go on from there at the next
// start. One lane is saved at a time.
//
// A lane is saved where it rests: it has counted each event up to one of them and none
// beyond; no flag is owed, no event parked or left out, and it is on record that all
// flags up to there are raised. So what is saved follows from the log and the rules
// alone, and nothing is to be done about the events that it stands for. Spans of rules
// say where flags are raised and do not concern it. Ordered rules are not in lanes: they
// have a checkpoint of their own, and read history.
type snapshotter struct {
	*raiser
	store Snapshots // none are taken if nil
	most  int       // bytes

	mu      sync.Mutex
	shots   []shot   // by partition
	origins []origin // what each partition has started from

	starts  *prometheus.CounterVec
	failed  prometheus.Counter
	held    prometheus.Histogram
	written prometheus.Histogram
}

// shot is a lane's latest snapshot, by this process or the one before.
type shot struct {
	sequence uint64
	at       time.Time
	bytes    int
	failed   time.Time // when the next could not be taken
	tooLarge bool      // it would have been
	outdated bool      // the rules that it is of run no more
}

// due says whether another one is worth it.
func (s shot) due(handled uint64, now time.Time) bool {
	return s.worth(handled) && (s.outdated || now.Sub(s.at) >= snapshotEvery) && now.Sub(s.failed) >= snapshotAgain
}

func (s shot) worth(handled uint64) bool {
	from := s.sequence
	if s.outdated {
		from = 0
	}
	return !s.tooLarge && handled >= from+snapshotWorth
}

// run saves what is due until ctx ends.
func (s *snapshotter) run(ctx context.Context) error {
	if s.store == nil {
		return nil
	}
	tick := time.NewTicker(snapshotLook)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := s.clock()
		s.takeIf(ctx, func(last shot, handled uint64) bool { return ctx.Err() == nil && last.due(handled, now) })
	}
}

// finish saves, at an orderly stop, whatever is worth it, as far as there is time.
func (s *snapshotter) finish(ctx context.Context) {
	if s.store == nil {
		return
	}
	end := time.Now().Add(snapshotsBegun)
	s.takeIf(ctx, func(last shot, handled uint64) bool { return time.Now().Before(end) && last.worth(handled) })
}

func (s *snapshotter) takeIf(ctx context.Context, wanted func(last shot, handled uint64) bool) {
	for _, l := range s.lanes {
		l.mu.Lock()
		handled := l.handled
		l.mu.Unlock()
		if !wanted(s.last(l), handled) {
			continue
		}
		if err := s.take(ctx, l); err != nil && ctx.Err() == nil {
			last := s.last(l)
			last.failed, last.tooLarge = s.clock(), errors.Is(err, errTooLarge)
			s.took(l, last)
			s.failed.Inc()
			s.logger.WarnContext(ctx, "a snapshot could not be taken", "partition", l.at.Partition, "error", err)
		}
	}
}

func (s *snapshotter) last(l *lane) shot {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.shots[l.at.Partition]
}

func (s *snapshotter) took(l *lane, now shot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shots[l.at.Partition] = now
}

// changed is told that all lanes run another program. If that has other rules, what was
// saved is of no use any more, and all of history was read for what is there now.
func (s *snapshotter) changed(before, now *program) {
	if len(now.added) == 0 && len(now.plan.rules) == len(before.plan.rules) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.shots {
		s.shots[i].outdated, s.shots[i].tooLarge = true, false
	}
}

// take saves a lane's state, if the lane rests. It waits for as long as it takes to copy
// the state, and not while that is written.
func (s *snapshotter) take(ctx context.Context, l *lane) error {
	c, err := s.copy(ctx, l)
	if err != nil || c == nil {
		return err
	}
	e, err := log.Get(ctx, s.activity, events.Position{Partition: l.at.Partition, Sequence: c.header.Sequence})
	if err != nil {
		return err
	}
	c.header.Event = e.ID
	begun := time.Now() // for the figures only
	size := 0
	err = s.store.Save(snapshotName(l.at), func(to io.Writer) error {
		size, err = c.write(to)
		return err
	})
	if err != nil {
		return err
	}
	s.written.Observe(time.Since(begun).Seconds())
	s.took(l, shot{sequence: c.header.Sequence, at: c.header.TakenAt, bytes: size})
	return nil
}

// copy copies a lane's state; nil if it does not rest.
func (s *snapshotter) copy(ctx context.Context, l *lane) (*snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := s.save(ctx, l); err != nil {
		return nil, err
	}
	if rests, err := s.rests(ctx, l); err != nil || !rests {
		return nil, err
	}
	begun := time.Now() // for the figures only
	c := &snapshot{
		header: snapshotHeader{
			Log: l.at.Log, Partitions: len(s.lanes), Partition: l.at.Partition,
			Sequence: l.handled, TakenAt: s.clock().UTC(), Rules: l.shareOfRules(),
		},
		state: pages{most: s.most},
	}
	if err := l.crew[0].engine.Snapshot(&c.state); err != nil {
		return nil, err
	}
	s.held.Observe(time.Since(begun).Seconds())
	return c, nil
}

// rests says whether the lane does; see snapshotter.
func (s *snapshotter) rests(ctx context.Context, l *lane) (bool, error) {
	g := l.crew[0].engine
	switch {
	case l.handled == 0 || l.handled > l.saved || len(l.owed) > 0 || len(l.pending) > 0:
		return false, nil
	case g.Last() != l.handled || g.Stats().Events != l.handled: // it is ahead, or an event was left out
		return false, nil
	case l.counting != 0: // it has panicked, and who knows in the middle of what
		return false, nil
	}
	parked, err := s.ledger.Parked(ctx, l.at)
	return err == nil && len(parked) == 0, err
}

// share is what a rule has come to in a lane, of what its tally holds of all lanes.
type share struct{ evaluations, hits uint64 }

func (l *lane) share(id string) *share {
	if l.shares == nil {
		l.shares = make(map[string]*share)
	}
	if l.shares[id] == nil {
		l.shares[id] = new(share)
	}
	return l.shares[id]
}

// newSnapshotter makes one for a raiser, with figures for r, unless that is nil.
func newSnapshotter(of *raiser, store Snapshots, r *prometheus.Registry) *snapshotter {
	s := &snapshotter{
		raiser: of, store: store, most: MaxSnapshot,
		starts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meet5_fraud_partition_starts_total",
			Help: "Partitions by what they have started from: their snapshot, or, for a reason, all of history.",
		}, []string{"from"}),
		failed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "meet5_fraud_snapshot_failures_total",
			Help: "Snapshots that could not be taken.",
		}),
		held: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "meet5_fraud_snapshot_held_seconds",
			Help:    "How long a partition waits while its state is copied for a snapshot.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		written: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "meet5_fraud_snapshot_write_seconds",
			Help:    "How long it takes to write a snapshot, while its partition goes on.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
	}
	if r != nil {
		s.starts, s.failed = registered(r, s.starts), registered(r, s.failed)
		s.held, s.written = registered(r, s.held), registered(r, s.written)
		if store != nil {
			registered(r, snapshotCollector{s})
		}
	}
	return s
}

var (
	snapshotAgeDesc = prometheus.NewDesc("meet5_fraud_snapshot_age_seconds",
		"How old the latest snapshot of a partition is; none is taken while little happens.", []string{"partition"}, nil)
	snapshotBytesDesc = prometheus.NewDesc("meet5_fraud_snapshot_bytes",
		"How large the latest snapshot of a partition is.", []string{"partition"}, nil)
)

// snapshotCollector tells of the latest snapshots.
type snapshotCollector struct{ *snapshotter }

// Describe implements prometheus.Collector.
func (snapshotCollector) Describe(to chan<- *prometheus.Desc) {
	to <- snapshotAgeDesc
	to <- snapshotBytesDesc
}

// Collect implements prometheus.Collector.
func (c snapshotCollector) Collect(to chan<- prometheus.Metric) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p, last := range c.shots {
		if last.bytes == 0 {
			continue
		}
		partition := strconv.Itoa(p)
		to <- prometheus.MustNewConstMetric(snapshotAgeDesc, prometheus.GaugeValue, c.clock().Sub(last.at).Seconds(), partition)
		to <- prometheus.MustNewConstMetric(snapshotBytesDesc, prometheus.GaugeValue, float64(last.bytes), partition)
	}
}

// Package subscription reads a log without gaps: it catches up from the log,
// then follows the bus, and goes back to the log whenever the bus has lost
// something.
//
// It promises a handler batches of events of one partition, in order, from the
// checkpoint on: each event at least once and none before its predecessor. The
// bus is a hint: with every message lost, events still arrive, later by at most
// the idle interval. Partitions go on side by side, one batch at a time each.
//
// A batch whose handler fails is handed over again, with backoff, until it
// succeeds. An event that is poisonous is put aside instead: parked under its key,
// its stream, and later events of that key are parked behind it, so that their
// order holds, while all others go on. Poisonous is what the handler says is so
// (Poison), what makes it panic, and what keeps failing by itself while another
// event of its type, for which there is something to do, is handled well just
// before and after. So an outage, in which everything
// fails, parks nothing. Parked events stay, as references into the log, until an
// operator has them retried or dropped.
//
// Several instances may share one group and its ledger. The broker makes one of
// them active per partition; the others see the checkpoint move and wait, and
// take over when it stands still while the log goes on. For a moment two may do
// the same work, and one may skip what another has done, so the handlers of a
// shared group keep no state of their own and guard their effects by position.
package subscription

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

const (
	// DefaultMaxBatch is the default bound of a batch, in events.
	DefaultMaxBatch = 1000
	// DefaultIdle is the default interval at which heads are compared.
	DefaultIdle = time.Second
	// maxPending bounds the commits of one partition that have come over the
	// bus and wait for the handler; beyond it the log is read instead.
	maxPending = 256
	// saveEvery is how often a checkpoint is saved at most while events flow.
	saveEvery = time.Second
	// heartbeatEvery is how often it is saved while none do.
	heartbeatEvery = 5 * time.Second
	// Failed calls are repeated after minRetry, doubled up to maxRetry.
	minRetry = 20 * time.Millisecond
	maxRetry = 5 * time.Second
)

// Batch is what there is to handle of a run of consecutive events of one
// partition.
type Batch struct {
	Log       string
	Partition int
	// First and Last are the sequences of the run's first and last event.
	First, Last uint64
	// Events are those of the run that are to be handled, in order: all, but for
	// those that are parked or have been handled as Late. There may be none.
	Events []events.Recorded
	// Late says that the events come out of turn: others with higher sequences
	// may have been handled before, though none of the same stream.
	Late bool
}

// Handler works through a batch. It must be able to see a batch, or the start of
// one, again. The events may be kept but not changed. Besides nil, ErrNothing says
// that the batch is handled, and Poison that one of its events never will be.
type Handler func(ctx context.Context, b Batch) error

// ErrNothing is what a handler returns of a batch that asked for nothing, if it
// wants to be exact: the batch is handled, but that does not show that what the
// handler needs for others is there.
var ErrNothing = errors.New("there was nothing to do")

// Config of a subscription. Log, Group and Handler are needed.
type Config struct {
	Log log.Reader
	// Group names the subscription: its instances share what is in the ledger.
	Group   string
	Handler Handler
	// Bus hints at new commits; without one the log is read at every Idle.
	Bus message.Subscriber
	// Ledger says where to start, what other instances have done, and what is
	// parked; without one, each run starts at the log's beginning, and what is
	// parked is known to this process alone.
	Ledger   Ledger
	MaxBatch int           // DefaultMaxBatch if 0
	Idle     time.Duration // DefaultIdle if 0
	Logger   *slog.Logger  // slog.Default() if nil
	Clock    func() time.Time
}

// Subscription follows one log for one group.
type Subscription struct {
	cfg   Config
	parts []*follower
}

// New makes a subscription. It does no I/O.
func New(cfg Config) *Subscription {
	if cfg.MaxBatch == 0 {
		cfg.MaxBatch = DefaultMaxBatch
	}
	if cfg.Idle == 0 {
		cfg.Idle = DefaultIdle
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	if cfg.Clock == nil {
		cfg.Clock = time.Now
	}
	if cfg.Ledger == nil {
		cfg.Ledger = NewMemory()
	}
	s := &Subscription{cfg: cfg}
	for i := range cfg.Log.Partitions() {
		s.parts = append(s.parts, newFollower(&s.cfg, i))
	}
	return s
}

// Run follows until ctx ends and the handlers in progress have returned. It
// returns nil then; nothing else ends it. A subscription runs once.
func (s *Subscription) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, f := range s.parts {
		wg.Go(func() { f.run(ctx) })
	}
	wg.Go(func() { s.watch(ctx) })
	wg.Wait()
	return nil
}

// CatchUp returns once everything is worked through that was in the log when it
// was called, or with ctx's error.
func (s *Subscription) CatchUp(ctx context.Context) error {
	for _, f := range s.parts {
		head, err := s.cfg.Log.Head(ctx, f.at.Partition)
		if err != nil {
			return fmt.Errorf("catch up with %s/%d: %w", s.cfg.Log.Name(), f.at.Partition, err)
		}
		if err := f.waitFor(ctx, head); err != nil {
			return fmt.Errorf("catch up with %s/%d: %w", s.cfg.Log.Name(), f.at.Partition, err)
		}
	}
	return nil
}

// WaitFor returns once the partition's events up to sequence are worked through,
// by this instance or another of the group, or with ctx's error.
func (s *Subscription) WaitFor(ctx context.Context, partition int, sequence uint64) error {
	if err := s.parts[partition].waitFor(ctx, sequence); err != nil {
		return fmt.Errorf("wait for %s/%d to come to %d: %w", s.cfg.Log.Name(), partition, sequence, err)
	}
	return nil
}

// Group is the subscription's group.
func (s *Subscription) Group() string { return s.cfg.Group }

// Log is the log that is followed.
func (s *Subscription) Log() log.Reader { return s.cfg.Log }

// Ledger is where the subscription's checkpoints and parked events are.
func (s *Subscription) Ledger() Ledger { return s.cfg.Ledger }

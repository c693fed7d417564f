// Package subscription reads a log without gaps: it catches up from the log,
// then follows the bus, and goes back to the log whenever the bus has lost
// something.
//
// It promises a handler batches of consecutive events of one partition, in
// order, from the checkpoint on: each event at least once and none before its
// predecessor. A batch whose handler fails is handed over again, with backoff,
// until it succeeds. The bus is a hint: with every message lost, events still
// arrive, later by at most the idle interval. Partitions go on side by side, one
// batch at a time each.
//
// Several instances may share one group and its checkpoints. The broker makes
// one of them active per partition; the others see the checkpoint move and wait,
// and take over when it stands still while the log goes on. For a moment two may
// do the same work, and one may skip what another has done, so the handlers of a
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
	"github.com/meet5/backend/events/bus"
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
	saveEvery = 250 * time.Millisecond
	// Failed calls are repeated after minRetry, doubled up to maxRetry.
	minRetry = 20 * time.Millisecond
	maxRetry = 5 * time.Second
)

// Batch is a run of consecutive events of one partition, at least one.
type Batch struct {
	Log       string
	Partition int
	Events    []events.Recorded
}

// Last is the sequence of the batch's last event.
func (b Batch) Last() uint64 { return b.Events[len(b.Events)-1].Sequence }

// Handler works through a batch. It must be able to see a batch, or the start of
// one, again. The events may be kept but not changed.
type Handler func(ctx context.Context, b Batch) error

// Checkpoints keeps how far a group has come in each partition.
type Checkpoints interface {
	// Load returns the sequence of the last event worked through, 0 at first.
	Load(ctx context.Context, group, log string, partition int) (uint64, error)
	// Save moves the checkpoint on. It never moves one back.
	Save(ctx context.Context, group, log string, partition int, sequence uint64) error
}

// Config of a subscription. Log, Group and Handler are needed.
type Config struct {
	Log     log.Reader
	Group   string
	Handler Handler
	// Bus hints at new commits; without one the log is read at every Idle.
	Bus message.Subscriber
	// Checkpoints are where to start and what other instances have done;
	// without any, each run starts at the log's beginning.
	Checkpoints Checkpoints
	MaxBatch    int           // DefaultMaxBatch if 0
	Idle        time.Duration // DefaultIdle if 0
	Logger      *slog.Logger  // slog.Default() if nil
	Clock       func() time.Time
}

// Status is how a subscription stands in one partition.
type Status struct {
	Group     string `json:"group"`
	Log       string `json:"log"`
	Partition int    `json:"partition"`
	// Position is the last event worked through, Head the last known to exist.
	Position uint64 `json:"position"`
	Head     uint64 `json:"head"`
	// Heartbeat is when the subscription last looked or worked.
	Heartbeat time.Time `json:"heartbeat"`
	// Failures counts the failed calls since the last success.
	Failures int    `json:"failures"`
	LastFail string `json:"last_error,omitempty"`
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
	s := &Subscription{cfg: cfg}
	for i := range cfg.Log.Partitions() {
		s.parts = append(s.parts, &follower{
			cfg: &s.cfg, partition: i,
			wake: make(chan struct{}, 1), moved: make(chan struct{}),
			logger: cfg.Logger.With("group", cfg.Group, "log", cfg.Log.Name(), "partition", i),
		})
	}
	return s
}

// Run follows until ctx ends and the handlers in progress have returned. It
// returns nil then; nothing else ends it.
func (s *Subscription) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for _, f := range s.parts {
		wg.Go(func() { f.run(ctx) })
	}
	wg.Wait()
	return nil
}

// CatchUp returns once everything is worked through that was in the log when it
// was called, or with ctx's error.
func (s *Subscription) CatchUp(ctx context.Context) error {
	for _, f := range s.parts {
		head, err := s.cfg.Log.Head(ctx, f.partition)
		if err != nil {
			return fmt.Errorf("catch up with %s/%d: %w", s.cfg.Log.Name(), f.partition, err)
		}
		if err := f.waitFor(ctx, head); err != nil {
			return fmt.Errorf("catch up with %s/%d: %w", s.cfg.Log.Name(), f.partition, err)
		}
	}
	return nil
}

// Status tells how each partition stands.
func (s *Subscription) Status() []Status {
	out := make([]Status, len(s.parts))
	for i, f := range s.parts {
		out[i] = f.status()
	}
	return out
}

// follower follows one partition.
type follower struct {
	cfg       *Config
	partition int
	logger    *slog.Logger
	wake      chan struct{}

	mu       sync.Mutex
	pending  []events.Commit // from the bus, oldest first
	asked    bool            // somebody waits in waitFor: read the log now
	position uint64
	head     uint64
	beat     time.Time
	failures int
	lastFail string
	moved    chan struct{} // closed and replaced when position moves

	// Of run's goroutine alone.
	saved   uint64
	savedAt time.Time
}

func (f *follower) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if f.cfg.Bus != nil {
		wg.Go(func() { f.listen(ctx) })
	}
	position, err := f.load(ctx)
	if err != nil {
		return
	}
	f.saved = position
	f.advance(position)
	idle := time.NewTicker(f.cfg.Idle)
	defer idle.Stop()
	f.catchUp(ctx)
	for {
		select {
		case <-ctx.Done():
			f.save(context.WithoutCancel(ctx), true)
			return
		case <-f.wake:
			f.follow(ctx)
		case <-idle.C:
			f.tick(ctx)
		}
		f.save(ctx, false)
	}
}

// listen takes commits off the bus as they come. They are acknowledged at once:
// if they get lost from here on, the log has them.
func (f *follower) listen(ctx context.Context) {
	topic := bus.Topic(f.cfg.Log.Name(), f.partition)
	for ctx.Err() == nil {
		var messages <-chan *message.Message
		if f.retry(ctx, "subscribe", func() (err error) {
			messages, err = f.cfg.Bus.Subscribe(ctx, topic)
			return err
		}) != nil {
			return
		}
		for m := range messages {
			c, err := bus.Commit(m)
			m.Ack()
			switch {
			case err != nil:
				f.logger.Warn("a message on the bus is no commit; the log has the truth", "error", err)
			case c.Log != f.cfg.Log.Name() || c.Partition != f.partition:
				f.logger.Warn("a commit of another partition is on the bus", "of", bus.Topic(c.Log, c.Partition))
			default:
				f.offer(c)
			}
		}
		if ctx.Err() == nil {
			_ = pause(ctx, minRetry) // the subscriber was closed; it may come back
		}
	}
}

func (f *follower) offer(c events.Commit) {
	f.mu.Lock()
	if len(f.pending) >= maxPending {
		f.pending = f.pending[1:]
	}
	f.pending = append(f.pending, c)
	f.head = max(f.head, c.Last())
	f.mu.Unlock()
	f.nudge()
}

func (f *follower) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// follow works through what the bus has brought, and through the log if that is
// not enough.
func (f *follower) follow(ctx context.Context) {
	f.mu.Lock()
	pending, asked := f.pending, f.asked
	f.pending, f.asked = nil, false
	f.mu.Unlock()
	b := batcher{follower: f}
	for _, c := range pending {
		if c.First > b.end()+1 {
			asked = true // a gap: the log has what is missing, and this commit too
			break
		}
		if !b.add(ctx, c) {
			return
		}
	}
	if b.flush(ctx) && asked {
		f.catchUp(ctx)
	}
}

// tick looks whether the log has gone on without a hint.
func (f *follower) tick(ctx context.Context) {
	head, err := f.cfg.Log.Head(ctx, f.partition)
	f.mu.Lock()
	f.beat = f.cfg.Clock()
	behind := err == nil && head > f.position
	f.head = max(f.head, head)
	f.mu.Unlock()
	if err != nil {
		f.failed("compare heads", err)
		return
	}
	if !behind {
		return
	}
	if f.cfg.Checkpoints != nil {
		// Another instance may be at it.
		position, err := f.cfg.Checkpoints.Load(ctx, f.cfg.Group, f.cfg.Log.Name(), f.partition)
		if err != nil {
			f.failed("load the checkpoint", err)
			return
		}
		if position > f.at() {
			f.saved = position
			f.advance(position)
			return
		}
	}
	f.catchUp(ctx)
}

// catchUp works through the log up to its end.
func (f *follower) catchUp(ctx context.Context) {
	_ = f.retry(ctx, "read the log", func() error {
		b := batcher{follower: f}
		for c, err := range f.cfg.Log.Read(ctx, f.partition, f.at()) {
			if err != nil {
				b.flush(ctx)
				return err
			}
			if !b.add(ctx, c) {
				return nil
			}
			f.save(ctx, false)
		}
		b.flush(ctx)
		return nil
	})
}

// batcher gathers consecutive events and hands them over in batches.
type batcher struct {
	*follower
	events []events.Recorded
}

// end is the last sequence that is gathered or worked through.
func (b *batcher) end() uint64 {
	if n := len(b.events); n > 0 {
		return b.events[n-1].Sequence
	}
	return b.at()
}

// add gathers the commit's events that are new. It is false once ctx has ended.
func (b *batcher) add(ctx context.Context, c events.Commit) bool {
	for e := range c.EventsAfter(b.end()) {
		b.events = append(b.events, e)
		if len(b.events) >= b.cfg.MaxBatch && !b.flush(ctx) {
			return false
		}
	}
	return true
}

// flush hands over what is gathered, again and again until the handler succeeds.
// It is false if ctx ended first.
func (b *batcher) flush(ctx context.Context) bool {
	if len(b.events) == 0 {
		return ctx.Err() == nil
	}
	batch := Batch{Log: b.cfg.Log.Name(), Partition: b.partition, Events: b.events}
	b.events = nil
	if b.retry(ctx, "handle a batch", func() error { return b.cfg.Handler(ctx, batch) }) != nil {
		return false
	}
	b.advance(batch.Last())
	return true
}

func (f *follower) at() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position
}

func (f *follower) advance(position uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.position = position
	f.head = max(f.head, position)
	f.beat = f.cfg.Clock()
	close(f.moved)
	f.moved = make(chan struct{})
}

func (f *follower) waitFor(ctx context.Context, position uint64) error {
	for {
		f.mu.Lock()
		done, moved := f.position >= position, f.moved
		f.asked = f.asked || !done
		f.mu.Unlock()
		if done {
			return nil
		}
		f.nudge()
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *follower) status() Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Status{
		Group: f.cfg.Group, Log: f.cfg.Log.Name(), Partition: f.partition,
		Position: f.position, Head: f.head, Heartbeat: f.beat,
		Failures: f.failures, LastFail: f.lastFail,
	}
}

func (f *follower) load(ctx context.Context) (position uint64, err error) {
	if f.cfg.Checkpoints == nil {
		return 0, nil
	}
	err = f.retry(ctx, "load the checkpoint", func() error {
		position, err = f.cfg.Checkpoints.Load(ctx, f.cfg.Group, f.cfg.Log.Name(), f.partition)
		return err
	})
	return position, err
}

// save moves the stored checkpoint on, now and then or, at the end, for certain.
// If it fails, some events will be seen again.
func (f *follower) save(ctx context.Context, now bool) {
	position := f.at()
	if f.cfg.Checkpoints == nil || position == f.saved || !now && f.cfg.Clock().Sub(f.savedAt) < saveEvery {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxRetry)
	defer cancel()
	if err := f.cfg.Checkpoints.Save(ctx, f.cfg.Group, f.cfg.Log.Name(), f.partition, position); err != nil {
		f.failed("save the checkpoint", err)
		return
	}
	f.saved, f.savedAt = position, f.cfg.Clock()
}

// retry calls do until it succeeds, with backoff, or ctx ends.
func (f *follower) retry(ctx context.Context, what string, do func() error) error {
	for wait := minRetry; ; wait = min(2*wait, maxRetry) {
		err := do()
		if err == nil {
			f.mu.Lock()
			f.failures, f.lastFail = 0, ""
			f.mu.Unlock()
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		f.failed(what, err)
		if err := pause(ctx, wait); err != nil {
			return err
		}
	}
}

// failed notes a fault and logs the first of a row.
func (f *follower) failed(what string, err error) {
	if errors.Is(err, context.Canceled) {
		return
	}
	f.mu.Lock()
	f.failures++
	f.lastFail = what + ": " + err.Error()
	f.beat = f.cfg.Clock()
	first := f.failures == 1
	f.mu.Unlock()
	if first {
		f.logger.Warn("subscription: could not "+what+", trying again", "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

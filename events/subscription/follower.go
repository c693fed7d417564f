package subscription

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
)

// follower follows one partition.
type follower struct {
	cfg    *Config
	at     Place
	logger *slog.Logger
	wake   chan struct{}

	mu      sync.Mutex
	pending []events.Commit // from the bus, oldest first
	asked   bool            // somebody waits in waitFor: read the log now
	state   state
	moved   chan struct{} // closed and replaced when the position moves

	// Of run's goroutine alone.
	loaded   bool // the ledger has been read
	saved    uint64
	savedAt  time.Time
	follows  bool                 // another instance is the active one
	heard    bool                 // the bus has brought all that is new since the last tick
	parked   map[uuid.UUID]uint64 // the first event of a key that is parked
	isParked int                  // how many events are parked in all
}

func newFollower(cfg *Config, partition int) *follower {
	at := Place{Group: cfg.Group, Log: cfg.Log.Name(), Partition: partition}
	return &follower{
		cfg: cfg, at: at,
		wake: make(chan struct{}, 1), moved: make(chan struct{}),
		logger: cfg.Logger.With("group", at.Group, "log", at.Log, "partition", partition),
	}
}

func (f *follower) run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	if f.cfg.Bus != nil {
		wg.Go(func() { f.listen(ctx) })
	}
	if f.retry(ctx, loadCheckpoint, func(int) error { return f.load(ctx) }) != nil {
		return
	}
	idle := time.NewTicker(f.cfg.Idle)
	defer idle.Stop()
	f.catchUp(ctx)
	for {
		select {
		case <-ctx.Done():
			f.save(context.WithoutCancel(ctx), 0)
			return
		case <-f.wake:
			f.follow(ctx)
		case <-idle.C:
			f.tick(ctx)
		}
		f.save(ctx, saveEvery)
	}
}

// listen takes commits off the bus as they come. They are acknowledged at once:
// if they get lost from here on, the log has them.
func (f *follower) listen(ctx context.Context) {
	topic := bus.Topic(f.at.Log, f.at.Partition)
	for ctx.Err() == nil {
		var messages <-chan *message.Message
		if f.retry(ctx, subscribe, func(int) (err error) {
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
			case c.Log != f.at.Log || c.Partition != f.at.Partition:
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
	f.state.sawHead(c.Last(), f.cfg.Clock())
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
	if !b.flush(ctx) {
		return
	}
	if f.heard = !asked; asked {
		f.goOn(ctx)
	}
}

// tick looks whether the log has gone on without a hint, and after what is
// parked. While the bus brings everything there is no need to look.
func (f *follower) tick(ctx context.Context) {
	if f.isParked > 0 {
		_ = f.noted(lookAfterParked, f.tend(ctx))
	}
	if f.heard {
		f.heard = false
		return
	}
	head, err := f.cfg.Log.Head(ctx, f.at.Partition)
	if f.noted(compareHeads, err) != nil {
		return
	}
	f.mu.Lock()
	now := f.cfg.Clock()
	f.state.beat = now
	f.state.sawHead(head, now)
	behind := head > f.state.position
	f.state.caughtUp = f.state.caughtUp || !behind
	f.mu.Unlock()
	if behind {
		f.goOn(ctx)
	}
}

// goOn works through the log, unless another instance is at it.
func (f *follower) goOn(ctx context.Context) {
	before := f.position()
	if f.noted(loadCheckpoint, f.load(ctx)) == nil && f.position() == before {
		f.catchUp(ctx)
	}
}

// catchUp works through the log up to its end.
func (f *follower) catchUp(ctx context.Context) {
	if f.retry(ctx, readLog, func(int) error {
		b := batcher{follower: f}
		for c, err := range f.cfg.Log.Read(ctx, f.at.Partition, f.position()) {
			if err != nil {
				b.flush(ctx)
				return err
			}
			if !b.add(ctx, c) {
				return ctx.Err()
			}
			f.save(ctx, saveEvery)
		}
		b.flush(ctx)
		return ctx.Err()
	}) == nil {
		f.mu.Lock()
		f.state.caughtUp = true
		f.mu.Unlock()
	}
}

func (f *follower) position() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.position
}

func (f *follower) waitFor(ctx context.Context, position uint64) error {
	for {
		f.mu.Lock()
		done, moved := f.state.position >= position, f.moved
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

// load takes over what the ledger says: what is parked is read after the
// checkpoint, and an event is parked before the checkpoint passes it, so that
// nothing is taken for handled that is not.
func (f *follower) load(ctx context.Context) error {
	c, err := f.cfg.Ledger.Load(ctx, f.at)
	if err != nil {
		return err
	}
	if f.loaded && c.Sequence <= f.position() {
		return nil // it is our own
	}
	parked, err := f.cfg.Ledger.Parked(ctx, f.at)
	if err != nil {
		return err
	}
	f.remember(parked)
	f.saved, f.savedAt, f.follows, f.loaded = c.Sequence, c.At, true, true
	f.advance(c.Sequence, 0)
	return nil
}

// advance moves the position on, past so many events that were handled.
func (f *follower) advance(position uint64, handled int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.advance(position, handled, f.cfg.Clock())
	close(f.moved)
	f.moved = make(chan struct{})
}

// save saves the checkpoint if it has moved and was not saved for so long, and as
// a heartbeat now and then. If it fails, some events will be seen again.
func (f *follower) save(ctx context.Context, every time.Duration) {
	now := f.cfg.Clock()
	f.mu.Lock()
	c := f.state.checkpoint(f.at)
	f.mu.Unlock()
	since := now.Sub(f.savedAt)
	if c.Sequence == f.saved && (every == 0 || since < heartbeatEvery) || since < every {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, maxRetry)
	defer cancel()
	if c.Sequence == f.saved && f.follows {
		// The beat is the active instance's, as long as it beats.
		there, err := f.cfg.Ledger.Load(ctx, f.at)
		if f.noted(loadCheckpoint, err) != nil {
			return
		}
		if f.savedAt = there.At; now.Sub(there.At) < 3*heartbeatEvery {
			f.savedAt = now
			return
		}
	}
	if f.noted(saveCheckpoint, f.cfg.Ledger.Save(ctx, c)) == nil {
		f.saved, f.savedAt, f.follows = c.Sequence, now, false
	}
}

// What may fail, in words that end "could not".
const (
	compareHeads    = "compare heads"
	handleBatch     = "handle a batch"
	loadCheckpoint  = "load the checkpoint"
	lookAfterParked = "look after what is parked"
	readLog         = "read the log"
	saveCheckpoint  = "save the checkpoint"
	subscribe       = "subscribe"
)

// retry calls do, with the number of the attempt from 1 on, until it succeeds,
// with backoff, or ctx ends.
func (f *follower) retry(ctx context.Context, what string, do func(attempt int) error) error {
	wait := minRetry
	for attempt := 1; ; attempt++ {
		err := do(attempt)
		if err != nil && ctx.Err() != nil {
			return ctx.Err()
		}
		if f.noted(what, err) == nil {
			return nil
		}
		if err := pause(ctx, wait); err != nil {
			return err
		}
		wait = min(2*wait, maxRetry)
	}
}

// noted notes that something failed, and logs the first of a row, or that it went
// well.
func (f *follower) noted(what string, err error) error {
	if err != nil && errors.Is(err, context.Canceled) {
		return err
	}
	f.mu.Lock()
	row := f.state.noted(what, err)
	if err != nil {
		f.state.beat = f.cfg.Clock()
	}
	f.mu.Unlock()
	if row == 1 {
		f.logger.Warn("subscription: could not "+what+", trying again", "error", err)
	}
	return err
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

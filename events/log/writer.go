package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Bounds of a log's writer. Each is per partition.
const (
	// Window is how many of the partition's last events are known by ID, so
	// that appending one again is answered with its position. An ID takes 32 bytes
	// of memory. It is a power of two.
	Window = 65_536
	// MaxQueuedEvents and MaxQueuedBytes bound what waits for a commit; an
	// append that does not fit is refused with ErrOverloaded.
	MaxQueuedEvents = 16_384
	MaxQueuedBytes  = 16 << 20
	// targetCommitBytes closes a commit that still has room for events.
	targetCommitBytes = 1 << 20
	// DefaultLinger is the Linger of a log on a server.
	DefaultLinger = 16 * time.Millisecond
	// lingerTimes is how many times as long as the last commit took the next one
	// lingers at most.
	lingerTimes = 3
	// maxAttempts bounds how often a commit runs into other writers'.
	maxAttempts = 64
	// maxYield bounds how long a writer that was not first leaves the partition to
	// the others before it tries again.
	maxYield = 400 * time.Millisecond
)

// DefaultTimeout bounds one commit, every attempt of it included.
const DefaultTimeout = 10 * time.Second

// Options of a Log. The zero value is fit for use.
type Options struct {
	// Clock gives the recorded time; time.Now if nil.
	Clock func() time.Time
	// Writer tells this writer's commits from others'; random if zero.
	Writer uuid.UUID
	// Committed is called with each commit that this writer made durable, in
	// order within a partition. It must not block.
	Committed func(events.Commit)
	// Timeout bounds one commit; DefaultTimeout if zero.
	Timeout time.Duration
	// Backoff waits before the n-th attempt (from 1) after an unclear outcome,
	// or until ctx ends; exponential from 2 ms to 500 ms if nil.
	Backoff func(ctx context.Context, n int) error
	// Linger is how long a commit waits at most for more appends: by those who were
	// just answered, and by anybody while other partitions' commits are under way. It
	// is for stores to which a commit costs far more than the events in it;
	// DefaultLinger suits a server. Zero: not at all. Who appends alone never waits.
	Linger time.Duration
	// Random draws from [0, 1) how long to yield to other writers; rand.Float64 if
	// nil. It must be safe for concurrent use.
	Random func() float64
}

// Log appends to a store and reads from it. Its methods are safe for concurrent
// use.
type Log struct {
	store Store
	opt   Options
	parts []*partition
	stop  context.CancelFunc
	group sync.WaitGroup
	once  sync.Once
	// writing is how many partitions have a commit under way.
	writing atomic.Int32
	// turn is held by the partition that has it, of those that other writers write
	// to as well.
	turn chan struct{}
}

// New makes a log of a store. It does no I/O; a partition's tail is read on the
// first append to it. Close ends it.
func New(store Store, opt Options) *Log {
	if opt.Clock == nil {
		opt.Clock = time.Now
	}
	if opt.Writer == uuid.Nil {
		opt.Writer = uuid.New()
	}
	if opt.Timeout == 0 {
		opt.Timeout = DefaultTimeout
	}
	if opt.Backoff == nil {
		opt.Backoff = backoff
	}
	if opt.Random == nil {
		opt.Random = rand.Float64
	}
	ctx, stop := context.WithCancel(context.Background())
	l := &Log{store: store, opt: opt, stop: stop, turn: make(chan struct{}, 1)}
	for i := range store.Partitions() {
		p := &partition{log: l, number: i, wake: make(chan struct{}, 1)}
		l.parts = append(l.parts, p)
		l.group.Go(func() { p.run(ctx) })
	}
	return l
}

func backoff(ctx context.Context, n int) error {
	return pause(ctx, min(2*time.Millisecond<<min(n, 10), 500*time.Millisecond))
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

// Close lets what is queued be written, refuses the rest with ErrClosed, and
// waits. It does not close the store.
func (l *Log) Close() {
	l.once.Do(func() {
		for _, p := range l.parts {
			p.close()
		}
		l.group.Wait()
		l.stop()
	})
}

// Name is the log's name.
func (l *Log) Name() string { return l.store.Name() }

// Partitions is the number of partitions.
func (l *Log) Partitions() int { return l.store.Partitions() }

// Head is the sequence of the partition's last event, 0 if it is empty.
func (l *Log) Head(ctx context.Context, partition int) (uint64, error) {
	return l.store.Head(ctx, partition)
}

// Read yields commits as Store.Read does.
func (l *Log) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return l.store.Read(ctx, partition, after)
}

// ByKey returns commits as Store.ByKey does.
func (l *Log) ByKey(ctx context.Context, partition int, from, to string) ([]events.Commit, error) {
	return l.store.ByKey(ctx, partition, from, to)
}

// Append makes the events durable, all in one commit or none, and says where
// each stands. They must share a partition. The error is one of this package's
// (ErrConflict, ErrOverloaded, ErrUnavailable, ErrClosed), ctx's, or says which
// event is malformed. If ctx ends first, the events may still be written.
func (l *Log) Append(ctx context.Context, evs ...events.Event) ([]Appended, error) {
	p, err := l.Submit(evs...)
	if err != nil {
		return nil, err
	}
	return p.Wait(ctx)
}

// Submit is Append without the waiting: it queues the events and returns at
// once. Events of one partition are written in the order they are submitted.
func (l *Log) Submit(evs ...events.Event) (*Pending, error) {
	if len(evs) == 0 || len(evs) > events.MaxCommitEvents {
		return nil, fmt.Errorf("append to %s: %d events, want 1 to %d", l.Name(), len(evs), events.MaxCommitEvents)
	}
	number, size := events.PartitionOf(evs[0].Stream, len(l.parts)), 0
	for i := range evs {
		if err := evs[i].Validate(); err != nil {
			return nil, fmt.Errorf("append to %s: %w", l.Name(), err)
		}
		if n := events.PartitionOf(evs[i].Stream, len(l.parts)); n != number {
			return nil, fmt.Errorf("append to %s: events of partitions %d and %d in one append", l.Name(), number, n)
		}
		size += evs[i].EncodedSize()
	}
	if size > events.MaxCommitBytes/2 {
		return nil, fmt.Errorf("append to %s/%d: %d bytes in one append, at most %d are allowed", l.Name(), number, size, events.MaxCommitBytes/2)
	}
	r := &Pending{events: evs, size: size, done: make(chan struct{})}
	return r, l.parts[number].enqueue(r)
}

// Pending is an append under way.
type Pending struct {
	events []events.Event
	size   int
	done   chan struct{}
	result []Appended
	err    error
}

// Wait returns the append's outcome, as Append does.
func (r *Pending) Wait(ctx context.Context) ([]Appended, error) {
	select {
	case <-r.done:
		return r.result, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for an append: %w", ctx.Err())
	}
}

func (r *Pending) fail(err error) {
	r.err = err
	close(r.done)
}

// partition is the writer of one partition. Its queue is guarded by mu; the view
// belongs to the goroutine in run.
type partition struct {
	log    *Log
	number int
	wake   chan struct{}

	mu     sync.Mutex
	queue  []*Pending
	events int
	bytes  int
	closed bool

	view  view
	ready bool // view holds the tail
	// expected is how many appends were under way when the last commit was answered,
	// its own among them, and lingerUntil how long they are waited for.
	expected    int
	lingerUntil time.Time
	// contended says that the last commit met others', so that the view is likely to
	// be old.
	contended bool
	// tookLast is how long the last insert took.
	tookLast time.Duration
}

func (p *partition) enqueue(r *Pending) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	// An empty queue takes any append, so that a big one is not refused for ever.
	if p.events > 0 && (p.events+len(r.events) > MaxQueuedEvents || p.bytes+r.size > MaxQueuedBytes) {
		return fmt.Errorf("append to %s/%d: %w: %d events wait", p.log.Name(), p.number, ErrOverloaded, p.events)
	}
	p.queue = append(p.queue, r)
	p.events += len(r.events)
	p.bytes += r.size
	select {
	case p.wake <- struct{}{}:
	default:
	}
	return nil
}

// take moves from the queue to the batch what fits into one commit with it.
func (p *partition) take(batch []*Pending) []*Pending {
	inBatch, bytesInBatch := 0, 0
	for _, r := range batch {
		inBatch, bytesInBatch = inBatch+len(r.events), bytesInBatch+r.size
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	count, size, n := inBatch, bytesInBatch, 0
	for _, r := range p.queue {
		if count > 0 && (count+len(r.events) > events.MaxCommitEvents || size+r.size > targetCommitBytes) {
			break
		}
		count, size, n = count+len(r.events), size+r.size, n+1
	}
	batch = append(batch, p.queue[:n]...)
	if n == len(p.queue) {
		p.queue = nil
	} else {
		p.queue = p.queue[n:]
	}
	p.events -= count - inBatch
	p.bytes -= size - bytesInBatch
	return batch
}

func (p *partition) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	close(p.wake)
}

func (p *partition) run(ctx context.Context) {
	for range p.wake {
		for p.step(ctx) {
		}
	}
	for p.step(ctx) {
	}
}

// step writes one commit's worth of the queue and says whether there was any.
func (p *partition) step(ctx context.Context) bool {
	p.linger(ctx)
	batch := p.take(nil)
	if len(batch) == 0 {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, p.log.opt.Timeout)
	defer cancel()
	p.log.writing.Add(1)
	began := time.Now()
	p.write(ctx, batch)
	ended := time.Now()
	p.log.writing.Add(-1)
	p.lingerUntil = ended.Add(min(lingerTimes*ended.Sub(began), p.log.opt.Linger))
	return true
}

// linger waits a moment for appends to share a commit, which costs far more than an
// event in it: for those who were just answered to bring their next, who would else
// make two groups for ever that are written by turns; and for a second one, while
// the server is at other partitions' commits, so that the busier it is the fewer it
// is given. A partition that has been quiet does not wait, and neither does who
// appends alone.
func (p *partition) linger(ctx context.Context) {
	left := time.Until(p.lingerUntil)
	if left <= 0 || p.enough() {
		return
	}
	over := time.NewTimer(left)
	defer over.Stop()
	for !p.enough() {
		select {
		case _, open := <-p.wake:
			if !open {
				return
			}
		case <-over.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

// enough says that there is no use in lingering: nothing is queued, or all that is
// expected.
func (p *partition) enough() bool {
	expected := p.expected
	if expected < 2 && p.log.writing.Load() > 0 {
		expected = 2
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue) == 0 || len(p.queue) >= expected || p.events >= events.MaxCommitEvents || p.bytes >= targetCommitBytes
}

// waiting is how many appends are queued.
func (p *partition) waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.queue)
}

// write answers every append of the batch: written, known already, or refused.
func (p *partition) write(ctx context.Context, batch []*Pending) {
	if !p.ready {
		if err := p.openView(ctx); err != nil {
			refuse(batch, err)
			return
		}
	}
	for losses := 0; losses < maxAttempts; losses++ {
		batch = p.try(ctx, batch, losses)
		if len(batch) == 0 {
			return
		}
	}
	refuse(batch, p.unavailable(fmt.Errorf("other writers were first %d times", maxAttempts)))
}

// try writes the batch and answers it, or returns what has no answer because another
// writer was first, after as many losses.
func (p *partition) try(ctx context.Context, batch []*Pending, losses int) []*Pending {
	met := losses > 0
	if p.contended {
		moved, err := p.catchUpInTurn(ctx, losses)
		if err != nil {
			refuse(batch, p.unavailable(err))
			return nil
		}
		defer p.log.endTurn()
		met = met || moved
		batch = p.take(batch)
	}
	d, err := p.draft(ctx, batch)
	if err != nil {
		refuse(batch, err)
		return nil
	}
	if len(d.events) == 0 {
		d.answer(events.Commit{})
		d.refuseLate()
		return nil
	}
	now := p.log.opt.Clock()
	if now.Before(p.view.recordedAt) {
		now = p.view.recordedAt
	}
	c, err := events.Encode(p.log.Name(), p.number, p.view.head+1, now, p.log.opt.Writer, d.events)
	if err != nil {
		refuse(d.open, err)
		return nil
	}
	began := time.Now()
	err = p.insert(ctx, c, d.keys)
	p.tookLast = time.Since(began)
	p.contended = met || errors.Is(err, ErrTaken)
	if errors.Is(err, ErrTaken) {
		return d.open
	}
	if err != nil {
		refuse(d.open, err)
		return nil
	}
	p.view.foldOwn(c, d.events)
	if p.log.opt.Committed != nil {
		p.log.opt.Committed(c)
	}
	p.expected = len(d.open) + p.waiting()
	d.answer(c)
	d.refuseLate()
	return nil
}

// catchUpInTurn waits until it is this partition's turn among those of this log that
// other writers write to as well, folds in what they wrote and says whether there was
// any. One at a time, they lose less often, and gather more into a commit meanwhile.
// Unless it fails, the caller ends the turn.
func (p *partition) catchUpInTurn(ctx context.Context, losses int) (moved bool, err error) {
	if losses > 0 {
		if err := p.yield(ctx, losses); err != nil {
			return false, err
		}
	}
	if err := p.log.takeTurn(ctx); err != nil {
		return false, err
	}
	moved, err = p.catchUp(ctx)
	if err == nil && (moved || losses == 0) {
		return moved, nil
	}
	p.log.endTurn()
	if err != nil {
		return false, err
	}
	// It was lost to a commit that cannot be read yet, or to none.
	if err := p.log.opt.Backoff(ctx, losses); err != nil {
		return false, err
	}
	return false, p.log.takeTurn(ctx)
}

func (l *Log) takeTurn(ctx context.Context) error {
	select {
	case l.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *Log) endTurn() { <-l.turn }

// yield leaves the partition to other writers for a while that is drawn: up to
// twice what losing took, which is about what a commit takes, and after every
// further loss up to twice as much, to sixteen times. Many writers that try again
// at once spend on refused inserts most of what the store can do; while they wait,
// their batches grow.
func (p *partition) yield(ctx context.Context, losses int) error {
	most := min(p.tookLast<<min(losses, 4), maxYield)
	return pause(ctx, time.Duration(p.log.opt.Random()*float64(most)))
}

func refuse(batch []*Pending, err error) {
	for _, r := range batch {
		r.fail(err)
	}
}

func (p *partition) unavailable(err error) error {
	return fmt.Errorf("append to %s/%d: %w: %w", p.log.Name(), p.number, ErrUnavailable, err)
}

// draft is the commit to be: the events that are new, the keys that they take,
// and the appends that it will answer.
type draft struct {
	events  []events.Event
	keys    []string
	appends []*Pending
	// open are the appends that have no answer yet, the late ones too, in the
	// order they were submitted: should the draft come to nothing, the next one
	// may take a late one, and must not put it behind what came after it.
	open []*Pending
	// late are appends that conflict with others of the draft. They are refused
	// once those are durable, and not before: whoever is told of a conflict must
	// find what it is with.
	late []late
}

type late struct {
	*Pending
	conflict error
}

func (d *draft) refuseLate() {
	for _, r := range d.late {
		r.fail(r.conflict)
	}
}

// unplaced marks a result whose Sequence still counts from the draft's start.
const unplaced = -1

// draft sorts the batch's events into known ones and new ones, and answers the
// appends that conflict.
func (p *partition) draft(ctx context.Context, batch []*Pending) (draft, error) {
	held, err := p.heldBehindView(ctx, batch)
	if err != nil {
		return draft{}, p.unavailable(err)
	}
	d := draft{appends: make([]*Pending, 0, len(batch)), open: make([]*Pending, 0, len(batch))}
	fresh := make(map[uuid.UUID]int, len(batch))
	taken := make(map[string]bool) // keys of the draft's own events
	for _, r := range batch {
		firstEvent, firstKey := len(d.events), len(d.keys)
		r.result = make([]Appended, len(r.events))
		var conflict *ConflictError
		early := false
		for i := range r.events {
			e := &r.events[i]
			if at, ok := p.view.known.find(e.ID); ok {
				r.result[i] = Appended{Position: events.Position{Partition: p.number, Sequence: at}, Duplicate: true}
				continue
			}
			at, repeated := fresh[e.ID]
			if !repeated {
				if conflict, early = check(e, held, taken); conflict != nil {
					break
				}
				at = len(d.events)
				fresh[e.ID] = at
				d.events = append(d.events, *e)
				before := len(d.keys)
				d.keys = e.Keys(d.keys)
				for _, k := range d.keys[before:] {
					taken[k] = true
				}
			}
			r.result[i] = Appended{Position: events.Position{Partition: unplaced, Sequence: uint64(at)}, Duplicate: repeated} //nolint:gosec // an index
		}
		if conflict == nil {
			d.appends, d.open = append(d.appends, r), append(d.open, r)
			continue
		}
		for i := range d.events[firstEvent:] {
			delete(fresh, d.events[firstEvent+i].ID)
		}
		for _, k := range d.keys[firstKey:] {
			delete(taken, k)
		}
		d.events, d.keys = d.events[:firstEvent], d.keys[:firstKey]
		err := fmt.Errorf("append to %s/%d: %w", p.log.Name(), p.number, conflict)
		if early {
			r.fail(err)
		} else {
			d.late, d.open = append(d.late, late{r, err}), append(d.open, r)
		}
	}
	return d, nil
}

// heldBehindView is held, with a view that is at least as new if it finds a key of
// an event that the view does not know. Such a key's holder may be that very event,
// appended before through another writer or by a try that was given up: then it is
// a duplicate, not a conflict.
func (p *partition) heldBehindView(ctx context.Context, batch []*Pending) (map[string]bool, error) {
	for {
		held, err := p.held(ctx, batch)
		if err != nil || !p.surprised(batch, held) {
			return held, err
		}
		// What is new may hold keys too: ask again.
		if moved, err := p.catchUp(ctx); err != nil || !moved {
			return held, err
		}
	}
}

// surprised says whether an event that the view does not know has a key that is
// held.
func (p *partition) surprised(batch []*Pending, held map[string]bool) bool {
	if len(held) == 0 {
		return false
	}
	var keys []string
	for _, r := range batch {
		for i := range r.events {
			if _, known := p.view.known.find(r.events[i].ID); known {
				continue
			}
			keys = r.events[i].Keys(keys[:0])
			if slices.ContainsFunc(keys, func(k string) bool { return held[k] }) {
				return true
			}
		}
	}
	return false
}

// held asks the store which keys of the batch's events, and which versions just
// before theirs, are there. Batches without keys cost nothing.
func (p *partition) held(ctx context.Context, batch []*Pending) (map[string]bool, error) {
	var keys []string
	for _, r := range batch {
		for i := range r.events {
			e := &r.events[i]
			keys = e.Keys(keys)
			if e.Version > 1 {
				keys = append(keys, events.VersionKey(e.Stream, e.Version-1))
			}
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return p.log.store.Held(ctx, p.number, keys)
}

// check finds what speaks against a new event, given the keys that the store holds
// and those that the draft takes. early says that the store alone is enough for it.
func check(e *events.Event, held, taken map[string]bool) (conflict *ConflictError, early bool) {
	if e.Version > 0 {
		this, before := events.VersionKey(e.Stream, e.Version), events.VersionKey(e.Stream, e.Version-1)
		switch {
		case held[this]:
			return &ConflictError{Event: e.ID}, true
		case taken[this]:
			return &ConflictError{Event: e.ID}, false
		case e.Version > 1 && !held[before] && !taken[before]:
			return &ConflictError{Event: e.ID}, true
		}
	}
	for _, c := range e.Claims {
		k := events.ClaimKey(c)
		if held[k] || taken[k] {
			return &ConflictError{Event: e.ID, Claim: c}, held[k]
		}
	}
	return nil, false
}

// answer tells the draft's appends where their events stand in the commit.
func (d *draft) answer(c events.Commit) {
	for _, r := range d.appends {
		for i := range r.result {
			if a := &r.result[i]; a.Partition == unplaced {
				a.Position = events.Position{Partition: c.Partition, Sequence: c.First + a.Sequence}
				a.RecordedAt = c.RecordedAt
			}
		}
		close(r.done)
	}
}

// insert writes the commit or says ErrTaken, through outcomes that are unclear:
// it offers the very same commit again until the store is definite, so that one
// that arrives late is met by its own fence.
func (p *partition) insert(ctx context.Context, c events.Commit, keys []string) error {
	insert := p.log.store.Insert
	if gister, ok := p.log.store.(Gister); ok && p.contended {
		insert = gister.InsertWithGist
	}
	for n := 1; ; n++ {
		err := insert(ctx, c, keys)
		if errors.Is(err, ErrTaken) && n > 1 {
			switch there, found, readErr := p.at(ctx, c.First); {
			case readErr != nil:
				err = readErr
			case !found:
				err = errNotYetSeen // a majority has it any moment now
			case bytes.Equal(there.Bytes(), c.Bytes()):
				return nil // an earlier try of ours
			default:
				return ErrTaken
			}
		}
		if err == nil || errors.Is(err, ErrTaken) {
			return err
		}
		if ctx.Err() != nil || p.log.opt.Backoff(ctx, n) != nil {
			return p.unavailable(err)
		}
	}
}

// errNotYetSeen says that a store refuses a sequence for a commit that it does
// not show yet.
var errNotYetSeen = errors.New("the sequence is taken by a commit that cannot be read yet")

// at returns the commit that holds a sequence, if there is one.
func (p *partition) at(ctx context.Context, sequence uint64) (c events.Commit, found bool, err error) {
	for c, err := range p.log.store.Read(ctx, p.number, sequence-1) {
		return c, err == nil, err
	}
	return events.Commit{}, false, nil
}

package bus

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/meet5/backend/events"
)

// Bounds of a feed.
const (
	// FeedCommits is how many commits may wait to be published.
	FeedCommits = 4096
	// FeedBytes is how many bytes of commits may wait to be published.
	FeedBytes = 64 << 20
	// FeedDrain is how long Run goes on publishing what waits when it is to end.
	FeedDrain = 5 * time.Second
	// maxAhead and maxAheadBytes are how many calls for a partition a Sender may
	// have under way, and how many bytes these hold before no other is begun.
	maxAhead      = 16
	maxAheadBytes = 1 << 20
)

// Sender is a publisher that can send what comes next before the bus has taken what
// came before.
type Sender interface {
	message.Publisher
	// Send returns once the messages are on their way, in order. Then wait, which
	// must be called once, returns what Publish would.
	Send(topic string, messages ...*message.Message) (wait func() error, err error)
}

// FeedOptions adjusts a feed. A field that is not above zero has its default.
type FeedOptions struct {
	// Commits, Bytes and Drain are FeedCommits, FeedBytes and FeedDrain.
	Commits int
	Bytes   int
	Drain   time.Duration
	// Logger takes what an operator should know; nil is silence.
	Logger *slog.Logger
}

// FeedStats counts the commits that a feed has done with.
type FeedStats struct {
	// Published is how many the bus has taken.
	Published uint64
	// Dropped is how many gave way to newer ones, or came after the end.
	Dropped uint64
	// Failed is how many were in a Publish call that failed.
	Failed uint64
}

// Feed takes commits from a log's writer, who must not wait, and publishes them:
// each partition's in the order in which they were offered, all partitions at
// once, whatever is queued of one in a single call. To a Sender it goes on sending
// while calls are under way. What does not fit, and what fails, is dropped, since
// those who follow read it in the log.
type Feed struct {
	pub    message.Publisher
	sender Sender // pub, or nil if it is none
	opts   FeedOptions
	log    *slog.Logger

	pumps sync.WaitGroup

	mu      sync.Mutex
	ctx     context.Context // of the messages; nil before Run
	ended   bool
	lines   map[lineKey]*line
	failing map[*line]bool // those whose latest call failed
	offers  uint64         // ever
	commits int            // queued, of all lines
	bytes   int
	stats   FeedStats
}

type lineKey struct {
	log       string
	partition int
}

// line is one partition's queue. There are as many as partitions were seen.
type line struct {
	topic string
	queue []offer
	busy  bool // a pump is at it

	ahead      []flight // oldest first
	aheadBytes int
}

// flight is a call of a Sender under way.
type flight struct {
	commits, bytes int
	wait           func() error
}

type offer struct {
	commit events.Commit
	number uint64 // in the order of all offers
}

// NewFeed makes a feed that publishes to pub once Run is called.
func NewFeed(pub message.Publisher, opts FeedOptions) *Feed {
	if opts.Commits <= 0 {
		opts.Commits = FeedCommits
	}
	if opts.Bytes <= 0 {
		opts.Bytes = FeedBytes
	}
	if opts.Drain <= 0 {
		opts.Drain = FeedDrain
	}
	if opts.Logger == nil {
		opts.Logger = slog.New(slog.DiscardHandler)
	}
	f := &Feed{
		pub: pub, opts: opts, log: opts.Logger,
		lines:   make(map[lineKey]*line),
		failing: make(map[*line]bool),
	}
	f.sender, _ = pub.(Sender)
	return f
}

// Offer queues a commit and never waits. A full queue drops the commit that has
// waited longest, of whichever partition.
func (f *Feed) Offer(c events.Commit) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ended {
		f.stats.Dropped++
		return
	}
	for f.commits > 0 && (f.commits >= f.opts.Commits || f.bytes+len(c.Bytes()) > f.opts.Bytes) {
		f.dropOldest()
	}
	l := f.line(c.Log, c.Partition)
	f.offers++
	l.queue = append(l.queue, offer{commit: c, number: f.offers})
	f.commits++
	f.bytes += len(c.Bytes())
	f.wake(l)
}

func (f *Feed) line(log string, partition int) *line {
	key := lineKey{log, partition}
	l := f.lines[key]
	if l == nil {
		l = &line{topic: Topic(log, partition)}
		f.lines[key] = l
	}
	return l
}

func (f *Feed) dropOldest() {
	var oldest *line
	for _, l := range f.lines {
		if len(l.queue) > 0 && (oldest == nil || l.queue[0].number < oldest.queue[0].number) {
			oldest = l
		}
	}
	f.commits--
	f.bytes -= len(oldest.queue[0].commit.Bytes())
	f.stats.Dropped++
	oldest.queue[0] = offer{}
	oldest.queue = oldest.queue[1:]
}

// wake sees to it that a line with something in its queue has a pump.
func (f *Feed) wake(l *line) {
	if f.ctx == nil || l.busy || len(l.queue) == 0 {
		return
	}
	l.busy = true
	f.pumps.Go(func() { f.pump(l) })
}

// Run publishes what is offered until ctx ends, and then what still waits, for
// at most the drain time. Errors of the bus are logged, once an outage, and
// counted; Run goes on. It can be called once.
func (f *Feed) Run(ctx context.Context) error {
	// The messages outlive ctx by the drain time.
	messages, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	if err := f.begin(messages); err != nil {
		return err
	}
	<-ctx.Done()
	f.mu.Lock()
	f.ended = true
	f.mu.Unlock()

	drained := make(chan struct{})
	go func() {
		f.pumps.Wait()
		close(drained)
	}()
	drain := time.NewTimer(f.opts.Drain)
	defer drain.Stop()
	select {
	case <-drained:
	case <-drain.C:
	}
	cancel()

	f.mu.Lock()
	defer f.mu.Unlock()
	if f.commits > 0 {
		f.log.Warn("the feed ended before it was drained", "commits", f.commits)
	}
	for f.commits > 0 {
		f.dropOldest()
	}
	return nil
}

func (f *Feed) begin(messages context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx != nil {
		return errors.New("feed: Run was called before")
	}
	f.ctx = messages
	for _, l := range f.lines {
		f.wake(l)
	}
	return nil
}

// Stats says what has become of the commits so far.
func (f *Feed) Stats() FeedStats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}

// pump publishes a line's queue until it is empty, or enough of it is under way.
func (f *Feed) pump(l *line) {
	for {
		batch, size := f.take(l)
		if batch == nil {
			return
		}
		messages := make([]*message.Message, len(batch))
		for i := range batch {
			messages[i] = Message(batch[i].commit)
			messages[i].SetContext(f.ctx)
		}
		if f.sender == nil {
			f.settle(l, len(batch), f.pub.Publish(l.topic, messages...))
			continue
		}
		wait, err := f.sender.Send(l.topic, messages...)
		if err != nil {
			wait = func() error { return err }
		}
		f.await(l, flight{len(batch), size, wait})
	}
}

// take empties the line's queue, or retires its pump.
func (f *Feed) take(l *line) (batch []offer, size int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ctx.Err() != nil || len(l.queue) == 0 || len(l.ahead) >= maxAhead || l.aheadBytes >= maxAheadBytes {
		l.busy = false
		return nil, 0
	}
	batch = l.queue
	l.queue = nil
	for i := range batch {
		size += len(batch[i].commit.Bytes())
	}
	f.commits -= len(batch)
	f.bytes -= size
	return batch, size
}

// await has a flight settled once it has ended, and those before it.
func (f *Feed) await(l *line, next flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.ahead = append(l.ahead, next)
	l.aheadBytes += next.bytes
	if len(l.ahead) == 1 {
		f.pumps.Go(func() { f.land(l, next) })
	}
}

// land settles a line's flights until there are none.
func (f *Feed) land(l *line, oldest flight) {
	for more := true; more; {
		f.settle(l, oldest.commits, oldest.wait())
		oldest, more = f.landed(l)
	}
}

// landed forgets the oldest flight, wakes the pump that may have waited for it, and
// returns the next one.
func (f *Feed) landed(l *line) (next flight, more bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	l.aheadBytes -= l.ahead[0].bytes
	l.ahead[0] = flight{}
	l.ahead = l.ahead[1:]
	f.wake(l)
	if len(l.ahead) == 0 {
		l.ahead = nil
		return flight{}, false
	}
	return l.ahead[0], true
}

// settle counts a batch, and tells of an outage when it begins and ends.
func (f *Feed) settle(l *line, n int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.stats.Failed += uint64(n) //nolint:gosec // a length
		if len(f.failing) == 0 {
			f.log.Warn("publishing commits fails; those who follow read them in the log", "error", err)
		}
		f.failing[l] = true
		return
	}
	f.stats.Published += uint64(n) //nolint:gosec // a length
	if len(f.failing) == 0 {
		return
	}
	// A line without traffic would never show that it works again.
	for other := range f.failing {
		if other == l || !other.busy {
			delete(f.failing, other)
		}
	}
	if len(f.failing) == 0 {
		f.log.Info("publishing commits works again", "failed", f.stats.Failed, "dropped", f.stats.Dropped)
	}
}

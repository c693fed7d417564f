package bus_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/bus/inproc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func commit(t testing.TB, partition int, first uint64) events.Commit {
	t.Helper()
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	c, err := events.Encode(events.ActivityLog, partition, first, at, uuid.UUID{1}, []events.Event{{
		ID: uuid.UUID{2}, Type: events.ProfileVisited, Stream: uuid.UUID{3}, OccurredAt: at,
		Data: []byte(`{}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// gate is a publisher that lets a test decide when each call returns, and with
// what. A real bus does not fail on request.
type gate struct {
	calls chan *call
}

type call struct {
	topic   string
	firsts  []uint64
	context context.Context
	result  chan error
}

func newGate() *gate { return &gate{calls: make(chan *call)} }

func (g *gate) Publish(topic string, messages ...*message.Message) error {
	c := &call{topic: topic, context: messages[0].Context(), result: make(chan error)}
	for _, m := range messages {
		commit, err := bus.Commit(m)
		if err != nil {
			return err
		}
		c.firsts = append(c.firsts, commit.First)
	}
	g.calls <- c
	return <-c.result
}

func (g *gate) Close() error { return nil }

// run runs the feed until the returned function is called, which gives what Run
// returned.
func run(f *bus.Feed) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	result := make(chan error, 1)
	go func() { result <- f.Run(ctx) }()
	return sync.OnceValue(func() error {
		cancel()
		return <-result
	})
}

func (c *call) expect(t *testing.T, partition int, firsts ...uint64) *call {
	t.Helper()
	if want := bus.Topic(events.ActivityLog, partition); c.topic != want {
		t.Errorf("a call for %s, want %s", c.topic, want)
	}
	if len(c.firsts) != len(firsts) {
		t.Fatalf("a call with commits %v, want %v", c.firsts, firsts)
	}
	for i := range firsts {
		if c.firsts[i] != firsts[i] {
			t.Fatalf("a call with commits %v, want %v", c.firsts, firsts)
		}
	}
	return c
}

func expectStats(t *testing.T, f *bus.Feed, want bus.FeedStats) {
	t.Helper()
	if got := f.Stats(); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestFeedPublishesWhatIsQueuedInOneCallAPartition(t *testing.T) {
	g := newGate()
	f := bus.NewFeed(g, bus.FeedOptions{})
	stop := run(f)
	f.Offer(commit(t, 3, 1))
	first := (<-g.calls).expect(t, 3, 1)
	// While one call is under way, the partition's others gather ...
	for n := uint64(2); n <= 4; n++ {
		f.Offer(commit(t, 3, n))
	}
	// ... and another partition is not held up.
	f.Offer(commit(t, 5, 1))
	(<-g.calls).expect(t, 5, 1).result <- nil
	first.result <- nil
	(<-g.calls).expect(t, 3, 2, 3, 4).result <- nil
	if err := stop(); err != nil {
		t.Error(err)
	}
	expectStats(t, f, bus.FeedStats{Published: 5})
}

func TestFeedDropsTheOldestOfAllPartitions(t *testing.T) {
	size := len(commit(t, 1, 1).Bytes())
	for name, opts := range map[string]bus.FeedOptions{
		"by commits": {Commits: 4},
		"by bytes":   {Bytes: 4*size + size/2},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate()
			f := bus.NewFeed(g, opts)
			for n := uint64(1); n <= 3; n++ {
				f.Offer(commit(t, 1, n))
				f.Offer(commit(t, 2, n))
			}
			expectStats(t, f, bus.FeedStats{Dropped: 2})
			stop := run(f)
			for range 2 {
				c := <-g.calls
				partition := map[string]int{"activity.1": 1, "activity.2": 2}[c.topic]
				c.expect(t, partition, 2, 3).result <- nil
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
			expectStats(t, f, bus.FeedStats{Published: 4, Dropped: 2})
		})
	}
}

// A queue that is full keeps the newest commit, even one beyond the bound.
func TestFeedKeepsTheNewestWhateverItsSize(t *testing.T) {
	g := newGate()
	f := bus.NewFeed(g, bus.FeedOptions{Bytes: 1})
	f.Offer(commit(t, 1, 1))
	f.Offer(commit(t, 1, 2))
	stop := run(f)
	(<-g.calls).expect(t, 1, 2).result <- nil
	if err := stop(); err != nil {
		t.Error(err)
	}
	expectStats(t, f, bus.FeedStats{Published: 1, Dropped: 1})
}

func TestFeedGoesOnAfterErrorsAndLogsAnOutageOnce(t *testing.T) {
	var logged bytes.Buffer // written under the feed's lock
	g := newGate()
	f := bus.NewFeed(g, bus.FeedOptions{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
	stop := run(f)
	outage := errors.New("no broker today")
	next := uint64(0)
	publish := func(partition int, result error) {
		t.Helper()
		next++
		f.Offer(commit(t, partition, next))
		(<-g.calls).expect(t, partition, next).result <- result
		until(t, func() bool {
			s := f.Stats()
			return s.Published+s.Failed == next
		})
	}
	publish(1, nil)
	for range 2 {
		for range 5 {
			publish(1, outage)
			publish(2, outage)
		}
		// The second partition has nothing more to say; the outage is over all
		// the same.
		publish(1, nil)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	expectStats(t, f, bus.FeedStats{Published: 3, Failed: 20})
	if got := strings.Count(logged.String(), "no broker today"); got != 2 {
		t.Errorf("two outages were logged %d times:\n%s", got, &logged)
	}
	if got := strings.Count(logged.String(), "works again"); got != 2 {
		t.Errorf("two recoveries were logged %d times:\n%s", got, &logged)
	}
}

func TestFeedDrainsWhenItEnds(t *testing.T) {
	g := newGate()
	f := bus.NewFeed(g, bus.FeedOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	f.Offer(commit(t, 1, 1))
	first := (<-g.calls).expect(t, 1, 1)
	f.Offer(commit(t, 1, 2))
	cancel()
	first.result <- nil
	second := (<-g.calls).expect(t, 1, 2)
	if err := second.context.Err(); err != nil {
		t.Errorf("what is drained has a context that ended: %v", err)
	}
	select {
	case err := <-ended:
		t.Errorf("Run ended with a call under way: %v", err)
	default:
	}
	second.result <- nil
	if err := <-ended; err != nil {
		t.Error(err)
	}
	expectStats(t, f, bus.FeedStats{Published: 2})
}

func TestFeedEndsWithinItsDrainTime(t *testing.T) {
	g := newGate()
	f := bus.NewFeed(g, bus.FeedOptions{Drain: time.Millisecond})
	stop := run(f)
	f.Offer(commit(t, 1, 1))
	stuck := <-g.calls
	f.Offer(commit(t, 1, 2))
	if err := stop(); err != nil {
		t.Error(err)
	}
	select {
	case <-stuck.context.Done():
	default:
		t.Error("the message that is stuck does not know that the feed has ended")
	}
	expectStats(t, f, bus.FeedStats{Dropped: 1})
	stuck.result <- stuck.context.Err()
	until(t, func() bool { return f.Stats().Failed == 1 })
	f.Offer(commit(t, 1, 3))
	expectStats(t, f, bus.FeedStats{Failed: 1, Dropped: 2})
}

func TestFeedRunsOnce(t *testing.T) {
	f := bus.NewFeed(newGate(), bus.FeedOptions{})
	if err := run(f)(); err != nil {
		t.Error(err)
	}
	if err := f.Run(context.Background()); err == nil {
		t.Error("ran twice")
	}
}

// aheadGate is a gate that can be sent ahead to.
type aheadGate struct{ *gate }

func (g aheadGate) Send(topic string, messages ...*message.Message) (func() error, error) {
	sent := make(chan *call)
	inner := &gate{calls: sent}
	failed := make(chan error, 1)
	go func() { failed <- inner.Publish(topic, messages...) }()
	g.calls <- <-sent
	return func() error { return <-failed }, nil
}

// To a Sender the feed goes on sending before it knows what became of the calls
// before, and counts them in their order all the same.
func TestFeedSendsAhead(t *testing.T) {
	const ahead = 16
	g := aheadGate{newGate()}
	f := bus.NewFeed(g, bus.FeedOptions{})
	stop := run(f)
	var calls []*call
	for n := uint64(1); n <= ahead; n++ {
		f.Offer(commit(t, 3, n))
		calls = append(calls, (<-g.calls).expect(t, 3, n))
	}
	// No more are under way. What comes now gathers, and goes once there is room.
	f.Offer(commit(t, 3, ahead+1))
	f.Offer(commit(t, 3, ahead+2))
	select {
	case <-g.calls:
		t.Fatal("a call too many is under way")
	case <-time.After(20 * time.Millisecond):
	}
	outage := errors.New("no broker today")
	go func() {
		for _, c := range calls[1:] {
			c.result <- nil
		}
	}()
	expectStats(t, f, bus.FeedStats{}) // the first one is not settled
	calls[0].result <- outage
	(<-g.calls).expect(t, 3, ahead+1, ahead+2).result <- nil
	if err := stop(); err != nil {
		t.Error(err)
	}
	expectStats(t, f, bus.FeedStats{Published: ahead + 1, Failed: 1})
}

// Few large calls are as much as many small ones.
func TestFeedSendsSoManyBytesAhead(t *testing.T) {
	g := aheadGate{newGate()}
	f := bus.NewFeed(g, bus.FeedOptions{Commits: 1 << 20})
	for range 1 << 20 / len(commit(t, 3, 1).Bytes()) {
		f.Offer(commit(t, 3, 1))
	}
	f.Offer(commit(t, 3, 1))
	stop := run(f)
	large := <-g.calls
	f.Offer(commit(t, 3, 2))
	select {
	case <-g.calls:
		t.Fatal("a call was begun beside one of a MiB")
	case <-time.After(20 * time.Millisecond):
	}
	large.result <- nil
	(<-g.calls).expect(t, 3, 2).result <- nil
	if err := stop(); err != nil {
		t.Error(err)
	}
}

// On a real bus, offered from several writers at once, every partition arrives
// whole and in order.
func TestFeedKeepsEachPartitionsOrder(t *testing.T) {
	const partitions, each = 16, 500
	b := inproc.New(inproc.Config{Capacity: each})
	defer b.Close()
	f := bus.NewFeed(b, bus.FeedOptions{Commits: partitions * each})
	stop := run(f)
	var wg sync.WaitGroup
	for p := range partitions {
		messages, err := b.Subscribe(context.Background(), bus.Topic(events.ActivityLog, p))
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			for n := uint64(1); n <= each; n++ {
				f.Offer(commit(t, p, n))
			}
		})
		wg.Go(func() {
			for want := uint64(1); want <= each; want++ {
				m := <-messages
				c, err := bus.Commit(m)
				if err != nil || c.Partition != p || c.First != want {
					t.Errorf("partition %d: got commit %d/%d, %v, want %d", p, c.Partition, c.First, err, want)
				}
				m.Ack()
			}
		})
	}
	wg.Wait()
	if err := stop(); err != nil {
		t.Error(err)
	}
	expectStats(t, f, bus.FeedStats{Published: partitions * each})
}

// until waits for a condition that nothing announces.
func until(t *testing.T, condition func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !condition() {
		if time.Now().After(deadline) {
			t.Fatal("it did not come to pass in 30 s")
		}
	}
}

func BenchmarkFeed(b *testing.B) {
	bs := inproc.New(inproc.Config{})
	defer bs.Close()
	messages, err := bs.Subscribe(context.Background(), bus.Topic(events.ActivityLog, 3))
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for m := range messages {
			m.Ack()
		}
	}()
	f := bus.NewFeed(bs, bus.FeedOptions{})
	stop := run(f)
	c := commit(b, 3, 1)
	b.ReportAllocs()
	for b.Loop() {
		f.Offer(c)
	}
	if err := stop(); err != nil {
		b.Fatal(err)
	}
	s := f.Stats()
	b.ReportMetric(float64(s.Dropped)/float64(b.N), "dropped/op")
}

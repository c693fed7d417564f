package rabbit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"
)

// lane is an AMQP channel in confirm mode, and the window of messages on it that
// await their confirm. It lives as long as its channel.
type lane struct {
	pub  *Publisher
	conn *amqp.Connection
	ch   *amqp.Channel
	// window holds a token for each message that is not yet settled.
	window chan struct{}

	declareMu sync.Mutex
	declared  map[string]bool    // exchanges
	refused   map[string]refusal // exchanges that the broker does not take

	// returns has room for a whole window, so that the connection's reader never
	// waits for us. The broker returns a message before it confirms it: whoever
	// has seen the confirm finds the return in here, or noted already.
	returns  chan amqp.Return
	returnMu sync.Mutex
	returned map[string]bool // correlation IDs, with RequireRoute
	told     bool            // that there was a return on this lane

	tag atomic.Uint64 // the latest correlation ID
}

func openLane(p *Publisher, conn *amqp.Connection) (*lane, error) {
	defer p.link.bound(conn)()
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	l := &lane{
		pub: p, conn: conn, ch: ch,
		window:   make(chan struct{}, p.cfg.Window),
		declared: make(map[string]bool),
		refused:  make(map[string]refusal),
		returns:  make(chan amqp.Return, p.cfg.Window),
		returned: make(map[string]bool),
	}
	ch.NotifyReturn(l.returns)
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("select confirms: %w", err)
	}
	return l, nil
}

// refusedFor is how long an exchange that was refused is not asked for again.
const refusedFor = maxBackoff

// refusal is the broker's answer to a declaration.
type refusal struct {
	at  time.Time
	err error
}

// prepare declares the route's exchange once a lane: to publish to one that does
// not exist closes the channel.
func (l *lane) prepare(r route) error {
	l.declareMu.Lock()
	defer l.declareMu.Unlock()
	if l.declared[r.exchange] {
		return nil
	}
	if r, ok := l.refused[r.exchange]; ok && time.Since(r.at) < refusedFor {
		return r.err
	}
	defer l.pub.link.bound(l.conn)()
	// A refused declaration closes its channel, so it gets one of its own.
	ch, err := l.conn.Channel()
	if err != nil {
		return fmt.Errorf("%w: open channel: %w", ErrUnavailable, err)
	}
	if err := declareExchange(ch, r); err != nil {
		if errors.Is(err, ErrOtherArguments) {
			l.refused[r.exchange] = refusal{at: time.Now(), err: err}
		}
		return explain(l.conn, err)
	}
	l.declared[r.exchange] = true
	return explain(l.conn, ch.Close())
}

// sent is a message that awaits its confirm.
type sent struct {
	confirm *amqp.DeferredConfirmation
	tag     string // correlation ID, with RequireRoute
}

// batch is the messages of one Publish or Send call on their way.
type batch struct {
	*lane
	sent    []sent
	settled int // so many of sent, in order
	timer   *time.Timer
	failed  int
	err     error // why the first that failed did
}

// send sends the messages; what becomes of them wait says.
func (l *lane) send(r route, messages []*message.Message) (*batch, error) {
	b := &batch{lane: l, sent: make([]sent, 0, len(messages))}
	for _, m := range messages {
		if err := b.send(r, m); err != nil {
			return nil, b.abandon(err)
		}
	}
	return b, nil
}

// wait waits until all messages are confirmed or have failed.
func (b *batch) wait(messages []*message.Message) error {
	for b.settled < len(b.sent) {
		if _, err := b.step(messages[b.settled].Context(), nil); err != nil {
			return b.abandon(err)
		}
	}
	if b.err != nil {
		return fmt.Errorf("%d of %d messages: %w", b.failed, len(messages), b.err)
	}
	return nil
}

// send waits for room in the window and publishes a message.
func (b *batch) send(r route, m *message.Message) error {
	if err := context.Cause(m.Context()); err != nil {
		return err
	}
	for room := false; !room; {
		select {
		case b.window <- struct{}{}:
			room = true
		default:
			var err error
			if room, err = b.step(m.Context(), b.window); err != nil {
				return err
			}
		}
	}
	p := publishing(m)
	var s sent
	if b.pub.cfg.RequireRoute {
		s.tag = strconv.FormatUint(b.tag.Add(1), 10)
		p.CorrelationId = s.tag
	}
	const mandatory, immediate = true, false
	var err error
	if s.confirm, err = b.ch.PublishWithDeferredConfirm(r.exchange, r.key, mandatory, immediate, p); err != nil {
		<-b.window
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	b.sent = append(b.sent, s)
	return nil
}

// step waits until the batch's oldest message is confirmed, and settles it, or
// until it has put a token into window (nil for none).
func (b *batch) step(ctx context.Context, window chan<- struct{}) (room bool, err error) {
	var oldest <-chan struct{}
	if b.settled < len(b.sent) {
		oldest = b.sent[b.settled].confirm.Done()
		select {
		case <-oldest:
			b.settle()
			return false, nil
		default:
		}
	}
	timeout := b.pub.cfg.Timeout
	if b.timer == nil {
		b.timer = time.NewTimer(timeout)
	} else {
		b.timer.Reset(timeout)
	}
	select {
	case window <- struct{}{}:
		return true, nil
	case <-oldest:
		b.settle()
		return false, nil
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case <-b.timer.C:
		// What is wrong with this connection nobody knows; a new one has all of
		// its window.
		b.pub.link.sever(b.conn)
		return false, fmt.Errorf("%w: no confirm for %v", ErrUnconfirmed, timeout)
	}
}

// settle takes note of what became of the oldest message.
func (b *batch) settle() {
	s := b.sent[b.settled]
	b.settled++
	var err error
	switch returned := b.wasReturned(s.tag); {
	case returned:
		err = ErrUnroutable
	case s.confirm.Acked():
	case b.ch.IsClosed():
		err = fmt.Errorf("%w: %w: connection lost", ErrUnconfirmed, ErrUnavailable)
	default:
		err = fmt.Errorf("%w: refused by the broker", ErrUnconfirmed)
	}
	<-b.window // after the returns were taken: that bounds them
	if err != nil {
		b.failed++
		if b.err == nil {
			b.err = err
		}
	}
}

// abandon gives up on what is not settled. Those messages hold their place in
// the window until the broker has settled them, or the lane is gone.
func (b *batch) abandon(err error) error {
	if b.settled < len(b.sent) {
		b.pub.calls.Go(func() {
			for b.settled < len(b.sent) {
				if _, err := b.step(context.Background(), nil); err != nil {
					return // the lane has been severed
				}
			}
		})
	}
	return err
}

// wasReturned notes the returns that have come and says whether the message with
// the tag was among them, now or earlier.
func (l *lane) wasReturned(tag string) bool {
	if tag == "" && len(l.returns) == 0 {
		return false
	}
	l.returnMu.Lock()
	defer l.returnMu.Unlock()
	for len(l.returns) > 0 {
		r := <-l.returns
		l.pub.unrouted.Add(1)
		if !l.told {
			l.told = true
			l.pub.log.Info("no queue takes a message: nobody follows its topic yet",
				"exchange", r.Exchange, "key", r.RoutingKey)
		}
		if r.CorrelationId != "" {
			l.returned[r.CorrelationId] = true
		}
	}
	defer delete(l.returned, tag)
	return l.returned[tag]
}

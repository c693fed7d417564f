package rabbit

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// The pause between attempts to connect doubles from minBackoff to maxBackoff;
// half of it is left to chance so that a fleet does not knock in step.
const (
	minBackoff = 100 * time.Millisecond
	maxBackoff = 5 * time.Second
)

// link keeps one connection to the broker: it connects at the first use and
// again whenever the connection is lost, until it is closed.
type link struct {
	uri     string
	name    string
	timeout time.Duration
	log     *slog.Logger

	ctx    context.Context
	cancel context.CancelFunc
	start  sync.Once
	done   chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when what follows changes
	conn    *amqp.Connection
	socket  net.Conn
	err     error  // why there is no connection; nil while the first attempt runs
	blocked string // why the broker takes no messages, when it does not
}

func newLink(c *Config, name string) *link {
	l := &link{
		uri: c.URI, name: name, timeout: c.Timeout,
		log:     c.Logger.With("connection", name),
		done:    make(chan struct{}),
		changed: make(chan struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// get returns the connection. It waits for an attempt to connect that follows
// the first use or a loss, and fails at once when one has failed already.
func (l *link) get(ctx context.Context) (*amqp.Connection, error) {
	for {
		conn, changed, err := l.look()
		if err != nil {
			return nil, err
		}
		if conn != nil {
			return conn, nil
		}
		if err := l.wait(ctx, changed); err != nil {
			return nil, err
		}
	}
}

// await returns the connection, and waits through an outage for it.
func (l *link) await(ctx context.Context) (*amqp.Connection, error) {
	for {
		conn, changed, err := l.look()
		if conn != nil {
			return conn, nil
		}
		if errors.Is(err, ErrClosed) {
			return nil, err
		}
		if err := l.wait(ctx, changed); err != nil {
			return nil, err
		}
	}
}

func (l *link) look() (*amqp.Connection, <-chan struct{}, error) {
	if l.ctx.Err() != nil {
		return nil, nil, ErrClosed
	}
	l.start.Do(func() { go l.run() })
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		return nil, l.changed, fmt.Errorf("%w: %w", ErrUnavailable, l.err)
	}
	if l.conn != nil && l.conn.IsClosed() {
		return nil, l.changed, nil // run is about to see it
	}
	return l.conn, l.changed, nil
}

func (l *link) wait(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-changed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-l.ctx.Done():
		return ErrClosed
	}
}

// accepts says whether the broker takes messages just now.
func (l *link) accepts() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blocked != "" {
		return fmt.Errorf("%w: it takes no messages: %s", ErrUnavailable, l.blocked)
	}
	return nil
}

// sever drops the connection without ceremony; run makes a new one.
func (l *link) sever(conn *amqp.Connection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn == conn && l.socket != nil {
		_ = l.socket.Close() // the reader sees it and ends the connection
	}
}

// bound severs the connection unless the returned function is called in time. The
// client's calls to the broker know no context.
func (l *link) bound(conn *amqp.Connection) (done func() bool) {
	return time.AfterFunc(l.timeout, func() { l.sever(conn) }).Stop
}

// close ends the connection, at the latest after the timeout.
func (l *link) close() {
	l.cancel()
	l.start.Do(func() { close(l.done) }) // never used: there is nothing to end
	<-l.done
}

func (l *link) set(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *link) run() {
	defer close(l.done)
	var failures int
	for l.ctx.Err() == nil {
		conn, socket, err := l.dial()
		if err != nil {
			if failures == 0 && l.ctx.Err() == nil {
				l.log.Warn("no connection to the broker, trying again", "error", err)
			}
			l.set(func() { l.err = err })
			l.pause(l.ctx, failures)
			failures++
			continue
		}
		if failures > 0 {
			l.log.Info("connected to the broker again", "attempts", failures+1)
		}
		failures = 0
		l.set(func() { l.conn, l.socket, l.err = conn, socket, nil })
		lost := l.watch(conn)
		l.set(func() { l.conn, l.socket, l.blocked = nil, nil, "" })
		if l.ctx.Err() != nil {
			_ = conn.CloseDeadline(time.Now().Add(l.timeout)) // it may be closed already
			return
		}
		l.log.Warn("lost the connection to the broker", "error", lost)
	}
}

// watch follows a connection until it is lost or the link is closed.
func (l *link) watch(conn *amqp.Connection) error {
	closes := conn.NotifyClose(make(chan *amqp.Error, 1))
	blocks := conn.NotifyBlocked(make(chan amqp.Blocking, 4))
	for {
		select {
		case <-l.ctx.Done():
			return nil
		case err := <-closes:
			if err == nil {
				return amqp.ErrClosed
			}
			return err
		case b, ok := <-blocks:
			if !ok {
				blocks = nil
				continue
			}
			if !b.Active {
				b.Reason = ""
				l.log.Info("the broker takes messages again")
			} else {
				l.log.Warn("the broker takes no messages", "reason", b.Reason)
			}
			l.set(func() { l.blocked = b.Reason })
		}
	}
}

func (l *link) dial() (*amqp.Connection, net.Conn, error) {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	var socket net.Conn
	unwatch := func() bool { return true }
	conn, err := amqp.DialConfig(l.uri, amqp.Config{
		Properties: amqp.Table{"product": "meet5", "connection_name": l.name},
		Dial: func(network, addr string) (net.Conn, error) {
			raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
			if err != nil {
				return nil, err
			}
			// The handshakes know no context: end them through the socket.
			unwatch = context.AfterFunc(ctx, func() { _ = raw.Close() })
			socket = &boundedWrites{Conn: raw, timeout: l.timeout}
			return socket, nil
		},
	})
	unwatch()
	if err != nil {
		if socket != nil {
			_ = socket.Close()
		}
		return nil, nil, fmt.Errorf("connect: %w", withoutURI(err))
	}
	return conn, socket, nil
}

func (l *link) pause(ctx context.Context, failures int) {
	d := min(minBackoff<<min(failures, 10), maxBackoff)
	d = d/2 + time.Duration(rand.Int64N(int64(d/2)+1)) //nolint:gosec // jitter, not a secret
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// boundedWrites fails a write that the other side does not take in time. Without
// it, a broker that stops reading holds up every publisher for ever.
type boundedWrites struct {
	net.Conn
	timeout time.Duration
}

func (c *boundedWrites) Write(b []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(b)
}

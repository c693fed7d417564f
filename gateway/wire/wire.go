// Package wire asks one HTTP/1.1 server over plain TCP, with as little work as that
// takes: the goroutine that asks writes the request and reads the answer itself.
//
// It promises that
//   - a request is framed by its length alone, and no field of it can hold another one
//     or end the head: what net/http refuses to send is refused here;
//   - answers are read, and their ends found, by net/http's own rules;
//   - a connection is used again only if its last answer came whole and nothing came
//     after it, and if the server has not closed it since. What a server sends without
//     being asked closes the connection, and is never the answer to a request;
//   - a request is sent twice only if its connection had been used before and it is
//     certain that nothing of it was sent, or if it only reads and not a byte of an
//     answer came. Where it could not connect the error is of the dialer;
//   - what is kept is bounded: connections in number and time, the head of an answer in
//     size.
package wire

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// MaxBody is the longest body, in bytes, that is sent. It is written before the
	// answer is read, so it must be less than what a server may leave unread for long.
	MaxBody = 64 << 10
	// MaxHead bounds, in bytes, the head of an answer, with all that come before the
	// final one (1xx). What is read ahead of a body counts as well.
	MaxHead = 64 << 10
)

// Config of a [Pool].
type Config struct {
	// Address is host:port of the server, and Host what requests to it say.
	Address, Host string
	// Dial connects to it, net.Dialer's DialContext for example.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// MaxIdle is how many connections are kept while nobody uses them.
	MaxIdle int
	// IdleFor is for how long. It should be less than the server keeps them.
	IdleFor time.Duration
	// ReadBuffer is what a connection reads ahead, in bytes.
	ReadBuffer int
}

// Pool holds the connections to one server. It is safe for concurrent use.
type Pool struct {
	cfg Config

	mu    sync.Mutex
	idle  []*conn // the one used last is the last
	sweep *time.Timer
}

// New makes a pool. It connects when it is asked to.
func New(cfg Config) *Pool { return &Pool{cfg: cfg} }

// Options of one request.
type Options struct {
	// Begin is until when the answer has to begin; zero is as long as the request's
	// context. Past it, the error is an os.ErrDeadlineExceeded, or a dialer's own if
	// it had no connection until then.
	Begin time.Time
	// Name and Value are one more field of the request's head, in place of what its
	// header says of that name; none if Name is empty.
	Name, Value string
}

// Takes says whether a request can be sent with [Pool.Send]: it has no body, or one
// that can be had from GetBody and is at most [MaxBody] long.
func Takes(r *http.Request) bool {
	if !supported || r.Close || r.Method == http.MethodConnect || r.Header["Expect"] != nil {
		return false
	}
	if r.Body == nil || r.Body == http.NoBody {
		return r.ContentLength == 0
	}
	return r.GetBody != nil && 0 < r.ContentLength && r.ContentLength <= MaxBody
}

// Send sends a request that [Takes] allows, without the fields of its header that are
// of a connection, and returns the answer once its head is here. The
// answer's body must be closed; it must not be closed and read at once.
//
// An answer of 1xx is passed over. The end of the request's context ends the exchange
// at any time, its cause is the error then; a request whose context has ended is not sent.
func (p *Pool) Send(r *http.Request, o Options) (*http.Response, error) {
	if ctx := r.Context(); ctx.Err() != nil {
		return nil, fmt.Errorf("ask: %w", context.Cause(ctx))
	}
	out, err := newMessage(r, p.cfg.Host, o)
	if err != nil {
		return nil, err
	}
	defer out.free()
	if c := p.take(o.Begin); c != nil {
		res, err := c.exchange(r, out.bytes)
		if err == nil || !c.mayRepeat(r, err) {
			return res, err
		}
	}
	dialing := r.Context()
	if !o.Begin.IsZero() {
		var cancel context.CancelFunc
		dialing, cancel = context.WithDeadline(dialing, o.Begin)
		defer cancel()
	}
	nc, err := p.dial(dialing)
	if err != nil {
		return nil, err
	}
	c, err := newConn(nc, p)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("use the connection: %w", err), nc.Close())
	}
	if err := c.setDeadline(o.Begin); err != nil {
		return nil, errors.Join(fmt.Errorf("use the connection: %w", err), nc.Close())
	}
	return c.exchange(r, out.bytes)
}

// dial connects on a stack of its own: it needs a deep one, which the caller's would
// keep for as long as an answer without an end lasts.
func (p *Pool) dial(ctx context.Context) (c net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		c, err = p.cfg.Dial(ctx, "tcp", p.cfg.Address)
	}()
	<-done
	return c, err
}

// take takes the connection that was used last, if there is one that the server has
// not closed.
func (p *Pool) take(begin time.Time) *conn {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[last]
		p.idle[last] = nil
		p.idle = p.idle[:last]
		p.mu.Unlock()
		c.used = true
		if c.setDeadline(begin) == nil && c.quiet() {
			return c
		}
		c.close()
	}
}

// put keeps a connection, unless there are enough.
func (p *Pool) put(c *conn) {
	c.since = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= p.cfg.MaxIdle {
		c.close()
		return
	}
	p.idle = append(p.idle, c)
	if p.sweep == nil {
		p.sweep = time.AfterFunc(p.cfg.IdleFor, p.closeOld)
	}
}

// closeOld closes what has not been used for long, and comes again if something is
// left.
func (p *Pool) closeOld() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sweep = nil
	old := 0
	for old < len(p.idle) && time.Since(p.idle[old].since) >= p.cfg.IdleFor {
		p.idle[old].close()
		old++
	}
	left := copy(p.idle, p.idle[old:])
	clear(p.idle[left:])
	if p.idle = p.idle[:left]; left > 0 {
		p.sweep = time.AfterFunc(p.cfg.IdleFor-time.Since(p.idle[0].since), p.closeOld)
	}
}

// CloseIdle closes the connections that nobody uses. The pool stays usable.
func (p *Pool) CloseIdle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.close()
	}
	p.idle = nil
	if p.sweep != nil {
		p.sweep.Stop()
		p.sweep = nil
	}
}

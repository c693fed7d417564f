package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"
)

var errHead = fmt.Errorf("the head of the answer is longer than %d bytes", MaxHead)

// conn is a connection to a server. It serves one exchange at a time.
type conn struct {
	net   net.Conn
	raw   syscall.RawConn
	pool  *Pool
	in    *bufio.Reader
	since time.Time // when it was put into the pool
	probe func(fd uintptr) bool

	used  bool // an exchange came before this one
	timed bool // a deadline is set
	// Of the exchange under way:
	left    int  // what the head may still take; of its body, any
	inHead  bool // the head is being read
	came    bool // something of the answer has come
	late    bool // reading was cut off, by a deadline or by the end of its context
	written int
	silent  bool // what probe has found: nothing has come, not even the end
}

func newConn(nc net.Conn, p *Pool) (*conn, error) {
	sc, ok := nc.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil, err
	}
	c := &conn{net: nc, raw: raw, pool: p}
	c.in = bufio.NewReaderSize(c, p.cfg.ReadBuffer)
	c.probe = c.look
	return c, nil
}

// Read implements io.Reader for the buffer.
func (c *conn) Read(b []byte) (int, error) {
	if c.inHead {
		if c.left <= 0 {
			return 0, errHead
		}
		b = b[:min(len(b), c.left)]
	}
	n, err := c.net.Read(b)
	c.left -= n
	c.came = c.came || n > 0
	c.late = timedOut(err)
	return n, err
}

func (c *conn) close() { _ = c.net.Close() }

// setDeadline sets until when the exchange may take; zero is for ever.
func (c *conn) setDeadline(at time.Time) error {
	if at.IsZero() && !c.timed {
		return nil
	}
	c.timed = !at.IsZero()
	return c.net.SetDeadline(at)
}

// longAgo ends whatever waits for a connection.
var longAgo = time.Unix(1, 0)

// cut ends the exchange from another goroutine.
func (c *conn) cut() { _ = c.net.SetDeadline(longAgo) }

// quiet says that a connection is open and nothing has come since its last answer.
// Its deadline must not have passed.
func (c *conn) quiet() bool {
	c.silent = false
	return c.raw.Read(c.probe) == nil && c.silent
}

// mayRepeat says, after an exchange that failed with err, whether another connection
// may be tried: net/http's rules.
func (c *conn) mayRepeat(r *http.Request, err error) bool {
	if !c.used || c.came || timedOut(err) || r.Context().Err() != nil {
		return false
	}
	if c.written == 0 {
		return true
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return r.Body == nil || r.Body == http.NoBody
	}
	return false
}

// exchange sends a request and reads the head of its answer. If it fails the
// connection is closed.
func (c *conn) exchange(r *http.Request, out []byte) (*http.Response, error) {
	stop := context.AfterFunc(r.Context(), c.cut)
	res, err := c.roundTrip(r, out)
	if err == nil && c.timed && (res.ContentLength < 0 || int64(c.in.Buffered()) < res.ContentLength) {
		err = c.untime(r.Context())
	}
	if err != nil {
		stop()
		c.close()
		return nil, fmt.Errorf("ask: %w", c.why(r.Context(), err))
	}
	b := &body{c: c, res: res, src: res.Body, ctx: r.Context(), stop: stop}
	if res.Body == http.NoBody {
		b.end(nil)
	} else {
		res.Body = b
	}
	return res, nil
}

// untime lets the rest of the exchange take as long as its context.
func (c *conn) untime(ctx context.Context) error {
	if err := c.setDeadline(time.Time{}); err != nil {
		return err
	}
	// If it has just ended, that deadline may be gone.
	if ctx.Err() != nil {
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *conn) roundTrip(r *http.Request, out []byte) (*http.Response, error) {
	c.left, c.inHead, c.came, c.late = MaxHead, true, false, false
	var writing error
	if c.written, writing = c.net.Write(out); writing != nil && (c.written == 0 || timedOut(writing)) {
		return nil, writing
	}
	// A server that has refused to read on may have said why.
	for {
		res, err := http.ReadResponse(c.in, r)
		switch {
		case err != nil && writing != nil:
			return nil, writing
		case err != nil:
			return nil, err
		case res.StatusCode == http.StatusSwitchingProtocols || res.StatusCode < 100:
			return nil, fmt.Errorf("the server answers with status %s", res.Status)
		case res.StatusCode >= 200:
			c.inHead = false
			res.Close = res.Close || writing != nil
			return res, nil
		}
	}
}

func timedOut(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }

// why is the cause of an error of the exchange. Who parses what was cut off may find
// fault with the half of a line rather than say that the rest is late.
func (c *conn) why(ctx context.Context, err error) error {
	late := c.late || timedOut(err)
	switch {
	case late && ctx.Err() != nil:
		return context.Cause(ctx)
	case late && !timedOut(err):
		return fmt.Errorf("%w: %w", os.ErrDeadlineExceeded, err)
	}
	return err
}

// body is the body of an answer, and gives its connection back.
type body struct {
	c    *conn
	res  *http.Response
	src  io.ReadCloser
	ctx  context.Context
	stop func() bool
	err  error // what ended it
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.src.Read(p)
	if err != nil {
		b.end(b.c.why(b.ctx, err))
		return n, b.err
	}
	return n, nil
}

// Close implements io.Closer. What has not been read is not waited for.
func (b *body) Close() error {
	if b.err == nil {
		b.end(http.ErrBodyReadAfterClose)
	}
	return nil
}

// end lets go of the connection: to the pool if the answer came whole, as err of nil
// or io.EOF says.
func (b *body) end(err error) {
	whole := err == nil || errors.Is(err, io.EOF)
	b.err = err
	if b.stop() && whole && !b.res.Close && b.c.in.Buffered() == 0 {
		b.c.pool.put(b.c)
		return
	}
	b.c.close()
}

package run

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	// readHeaderTimeout ends clients that open connections and say nothing.
	readHeaderTimeout = 5 * time.Second
	// idleTimeout is longer than the 60 s of usual load balancers, so that it is
	// they who close a kept connection, and no request runs into a closed one.
	idleTimeout = 120 * time.Second
	// maxHeaderBytes has room for a token and cookies that are not ours.
	maxHeaderBytes = 32 << 10
	// writeTimeout is how long a client may take to receive what is ready for it, a
	// piece of an answer at a time. It ends those that ask and do not read, be it the
	// connection that they do not read or a stream of it; an answer that is read may
	// take for ever.
	writeTimeout = 30 * time.Second
	// maxConcurrent is how many requests of an HTTP/2 connection are served at once.
	maxConcurrent = 128
	// pingAfter is for how long an HTTP/2 connection may be silent until it is asked
	// whether it lives, and pingTimeout how long it may take to say so.
	pingAfter   = 30 * time.Second
	pingTimeout = 15 * time.Second
	// defaultDrain is how long requests under way may take to end.
	defaultDrain = 10 * time.Second
)

// Server says what [HTTP] serves. Either Addr or Listener is needed.
type Server struct {
	Addr     string       // host:port; port 0 takes a free one
	Listener net.Listener // in place of Addr; HTTP closes it
	Handler  http.Handler
	// Certificate, if set, has HTTP speak TLS, 1.2 and later, with HTTP/2.
	Certificate *Certificate
	// ShutdownTimeout is how long a drain may take; 0 means 10 s.
	ShutdownTimeout time.Duration
	// Logger gets what net/http complains of; nil drops it.
	Logger *slog.Logger
	// OnListen, if set, is told the address once connections are accepted.
	OnListen func(addr net.Addr)

	patience patience // the usual one if zero
}

// patience is how long a server waits for its clients.
type patience struct{ header, idle, write, pingAfter, ping time.Duration }

type drainingKey struct{}

// Draining is closed when the server of this request's context begins to drain.
// A handler that answers without end (server-sent events) must return then;
// others need not care. Outside of [HTTP] it is nil, which is never ready.
func Draining(ctx context.Context) <-chan struct{} {
	c, _ := ctx.Value(drainingKey{}).(chan struct{})
	return c
}

// HTTP serves until ctx ends, then accepts no more connections, waits for the
// requests under way, and returns nil. Requests that outlast ShutdownTimeout are
// cut off: their contexts end, their connections are closed, and that is an error.
func HTTP(ctx context.Context, s Server) error {
	if s.ShutdownTimeout == 0 {
		s.ShutdownTimeout = defaultDrain
	}
	if s.Logger == nil {
		s.Logger = slog.New(slog.DiscardHandler)
	}
	if s.patience == (patience{}) {
		s.patience = patience{header: readHeaderTimeout, idle: idleTimeout, write: writeTimeout, pingAfter: pingAfter, ping: pingTimeout}
	}
	listener := s.Listener
	if listener == nil {
		var err error
		if listener, err = net.Listen("tcp", s.Addr); err != nil {
			return fmt.Errorf("listen on %s: %w", s.Addr, err)
		}
	}

	// Requests must outlive ctx, which only says that the drain begins.
	draining := make(chan struct{})
	requests, cut := context.WithCancel(context.WithValue(context.WithoutCancel(ctx), drainingKey{}, draining))
	defer cut()
	server := &http.Server{
		Handler: impatientStreams(s.Handler, s.patience.write),
		// An asterisk is for the handler to answer, as everything is.
		DisableGeneralOptionsHandler: true,
		ReadHeaderTimeout:            s.patience.header,
		IdleTimeout:                  s.patience.idle,
		MaxHeaderBytes:               maxHeaderBytes,
		HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxConcurrent, SendPingTimeout: s.patience.pingAfter, PingTimeout: s.patience.ping},
		ErrorLog:                     slog.NewLogLogger(s.Logger.Handler(), slog.LevelWarn),
		BaseContext:                  func(net.Listener) context.Context { return requests },
	}
	served := make(chan error, 1)
	accepting := impatient{listener, s.patience.write}
	if s.Certificate == nil {
		go func() { served <- server.Serve(accepting) }()
	} else {
		server.TLSConfig = s.Certificate.config()
		go func() { served <- server.ServeTLS(accepting, "", "") }()
		watching, stop := context.WithCancel(requests)
		var watch sync.WaitGroup
		watch.Go(func() { _ = s.Certificate.Watch(watching) }) // it ends with ctx and has no error
		defer watch.Wait()
		defer stop()
	}
	if s.OnListen != nil {
		s.OnListen(listener.Addr())
	}

	select {
	case err := <-served:
		_ = server.Close()
		return fmt.Errorf("serve on %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	close(draining)
	limit, done := context.WithTimeout(context.WithoutCancel(ctx), s.ShutdownTimeout)
	defer done()
	err := server.Shutdown(limit)
	<-served //nolint:errcheck // it says only that it was shut down
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("requests were still under way after %v", s.ShutdownTimeout)
	}
	// The connections first: a handler that returns because its context has ended
	// must not pass for one that has answered.
	err = errors.Join(err, server.Close())
	cut()
	return fmt.Errorf("drain %s: %w", listener.Addr(), err)
}

// impatient is a listener whose connections do not wait for ever for their peer to
// read.
type impatient struct {
	net.Listener
	limit time.Duration
}

func (l impatient) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return impatientConn{c, l.limit}, nil
}

type impatientConn struct {
	net.Conn
	limit time.Duration
}

// Write implements io.Writer.
func (c impatientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.limit)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

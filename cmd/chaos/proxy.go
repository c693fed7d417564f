package chaos

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// direction is which way bytes go through a proxy.
type direction int

const (
	up   direction = iota // from a program to the service
	down                  // from the service to a program
)

const (
	// dialTimeout bounds how long a proxy tries to reach its service.
	dialTimeout = 2 * time.Second
	// chunk is how many bytes a proxy passes on at once, at most.
	chunk = 64 << 10
)

// proxy stands between the programs and a service, and treats what runs through
// it badly when it is told to. What it lets through is unchanged and in order: TCP
// promises that much on the worst of nets.
type proxy struct {
	target   string
	listener net.Listener
	running  sync.WaitGroup
	weather  atomic.Pointer[weather]

	mu     sync.Mutex // guards lines and closed, and changes of the weather
	lines  map[*line]struct{}
	closed bool
}

// weather is what happens to bytes. It is never changed, only replaced.
type weather struct {
	// delay is how long the next bytes are kept back; nil: not at all.
	delay func() time.Duration
	// hold, while not nil, keeps a direction's bytes back until it is closed.
	hold [2]chan struct{}
	// swallow, while not nil, lets a direction's bytes vanish until it is closed.
	swallow [2]chan struct{}
}

// newProxy listens on loopback, on a port that stays the same, before target,
// which need not be there yet.
func newProxy(target string) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen before %s: %w", target, err)
	}
	p := &proxy{target: target, listener: l, lines: make(map[*line]struct{})}
	p.weather.Store(&weather{})
	p.running.Go(p.serve)
	return p, nil
}

// address is where programs reach the service through the proxy.
func (p *proxy) address() string { return p.listener.Addr().String() }

// close ends the proxy and everything that runs through it.
func (p *proxy) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	_ = p.listener.Close()
	p.cut()
	p.running.Wait()
}

// cut resets all connections and returns how many. New ones are let through.
func (p *proxy) cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.lines {
		l.reset()
	}
	return len(p.lines)
}

// delay keeps whatever is read back for as long as by says, until the returned
// function is called. by is called from many goroutines.
func (p *proxy) delay(by func() time.Duration) (heal func()) {
	p.change(func(w *weather) { w.delay = by })
	return func() { p.change(func(w *weather) { w.delay = nil }) }
}

// hold keeps a direction's bytes back until the returned function is called.
func (p *proxy) hold(d direction) (heal func()) {
	until := make(chan struct{})
	p.change(func(w *weather) { w.hold[d] = until })
	return sync.OnceFunc(func() {
		p.change(func(w *weather) { w.hold[d] = nil })
		close(until)
	})
}

// swallow makes connections half-open: they stay up, and one direction's bytes
// are gone, the end of a connection with them. The returned function ends that and
// resets the connections that have lost bytes, as a router does that has forgotten
// them: nobody is ever handed a stream with a hole in it.
func (p *proxy) swallow(d direction) (heal func()) {
	until := make(chan struct{})
	p.change(func(w *weather) { w.swallow[d] = until })
	return sync.OnceFunc(func() {
		p.change(func(w *weather) { w.swallow[d] = nil })
		close(until)
		p.mu.Lock()
		defer p.mu.Unlock()
		for l := range p.lines {
			if l.robbed[up].Load() || l.robbed[down].Load() {
				l.reset()
			}
		}
	})
}

func (p *proxy) change(f func(*weather)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w := *p.weather.Load()
	f(&w)
	p.weather.Store(&w)
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Go(func() { p.connect(in) })
	}
}

func (p *proxy) connect(in net.Conn) {
	out, err := net.DialTimeout("tcp", p.target, dialTimeout)
	if err != nil {
		abort(in)
		return
	}
	l := &line{in: in, out: out, gone: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		l.reset()
		return
	}
	p.lines[l] = struct{}{}
	p.mu.Unlock()
	var pumps sync.WaitGroup
	pumps.Go(func() { p.pump(l, in, out, up) })
	pumps.Go(func() { p.pump(l, out, in, down) })
	pumps.Wait()
	p.mu.Lock()
	delete(p.lines, l)
	p.mu.Unlock()
}

// pump passes one direction's bytes on until either side has ended.
func (p *proxy) pump(l *line, from, to net.Conn, d direction) {
	defer l.end()
	buf := make([]byte, chunk)
	for {
		n, err := from.Read(buf)
		if until := p.weather.Load().hold[d]; until != nil {
			l.wait(until)
		}
		w := p.weather.Load()
		if until := w.swallow[d]; until != nil || l.robbed[d].Load() {
			l.robbed[d].Store(true)
			if err != nil && until != nil {
				l.wait(until)
			}
			if err != nil {
				return
			}
			continue
		}
		if n > 0 {
			if w.delay != nil {
				l.pause(w.delay())
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// line is one connection through a proxy.
type line struct {
	in, out net.Conn
	gone    chan struct{} // closed at its end
	once    sync.Once
	// robbed says that bytes of a direction have vanished: it gets no more.
	robbed [2]atomic.Bool
}

// end closes both sides.
func (l *line) end() {
	l.once.Do(func() {
		close(l.gone)
		_ = l.in.Close()
		_ = l.out.Close()
	})
}

// reset ends both sides with a reset, so that both are told of an error.
func (l *line) reset() {
	l.once.Do(func() {
		close(l.gone)
		abort(l.in)
		abort(l.out)
	})
}

func (l *line) wait(until <-chan struct{}) {
	select {
	case <-until:
	case <-l.gone:
	}
}

func (l *line) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-l.gone:
	}
}

// abort closes a connection without a goodbye.
func abort(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = c.Close()
}

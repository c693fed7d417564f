package rabbit_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"
)

// proxy stands between the client and the broker, and can cut what runs through
// it.
type proxy struct {
	target   string
	listener net.Listener
	wg       sync.WaitGroup

	mu      sync.Mutex
	conns   map[net.Conn]bool // true: the client's side
	refuse  int               // so many connections to come; below 0: all
	refused chan struct{}     // one token for each that was refused
	stalled bool              // take bytes from nobody, give none
	count   int               // connections that were let through
	resume  *sync.Cond
}

func newProxy(tb testing.TB, url string) *proxy {
	tb.Helper()
	u, err := amqp.ParseURI(url)
	if err != nil {
		tb.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	p := &proxy{
		target:   net.JoinHostPort(u.Host, fmt.Sprint(u.Port)),
		listener: l,
		conns:    map[net.Conn]bool{},
		refused:  make(chan struct{}, 1000),
	}
	p.resume = sync.NewCond(&p.mu)
	p.wg.Go(p.serve)
	tb.Cleanup(func() {
		_ = l.Close()
		p.stall(false)
		p.cut(-1)
		p.wg.Wait()
	})
	return p
}

// uri is the broker's, as seen through the proxy. Heartbeats, which would end a
// silent connection after half a minute, are off: the tests are about what we do.
func (p *proxy) uri(tb testing.TB, url string) string {
	tb.Helper()
	u, err := amqp.ParseURI(url)
	if err != nil {
		tb.Fatal(err)
	}
	u.Host = "127.0.0.1"
	u.Port = p.listener.Addr().(*net.TCPAddr).Port
	return strings.SplitN(u.String(), "?", 2)[0] + "?heartbeat=0"
}

// cut ends all connections and refuses the next so many, below 0 all.
func (p *proxy) cut(refuse int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = refuse
	for c := range p.conns {
		_ = c.Close()
	}
}

// stall lets nothing through, without ending a connection.
func (p *proxy) stall(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stalled = on
	p.resume.Broadcast()
}

// tell sends the clients a frame, as the broker would.
func (p *proxy) tell(frame []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c, client := range p.conns {
		if client {
			_, _ = c.Write(frame)
		}
	}
}

// connectionBlocked is what a broker sends whose memory or disk is low: method 60
// of class 10 on channel 0, with a reason. An alarm cannot be had from outside.
func connectionBlocked(reason string) []byte {
	payload := append([]byte{0, 10, 0, 60, byte(len(reason))}, reason...)
	return frame(payload)
}

// connectionUnblocked is method 61 of class 10.
func connectionUnblocked() []byte { return frame([]byte{0, 10, 0, 61}) }

func frame(payload []byte) []byte {
	f := append([]byte{1, 0, 0, 0, 0, 0, byte(len(payload))}, payload...)
	return append(f, 0xCE)
}

func (p *proxy) serve() {
	for {
		in, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.refuses() {
			_ = in.Close()
			p.refused <- struct{}{}
			continue
		}
		out, err := net.Dial("tcp", p.target)
		if err != nil {
			_ = in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = true, false
		p.count++
		p.mu.Unlock()
		p.wg.Go(func() { p.pump(in, out) })
		p.wg.Go(func() { p.pump(out, in) })
	}
}

// accepted is how many connections have been let through.
func (p *proxy) accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

func (p *proxy) refuses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refuse > 0 {
		p.refuse--
		return true
	}
	return p.refuse < 0
}

func (p *proxy) pump(from, to net.Conn) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
		delete(p.conns, to)
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		for p.stalled {
			p.resume.Wait()
		}
		p.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

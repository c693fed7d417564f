package chaos

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// echo is a service that says what it is told, and counts its bytes.
type echo struct {
	net.Listener
	heard atomic.Int64
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{Listener: l}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.MultiWriter(c, e), c)
			}()
		}
	}()
	return e
}

func (e *echo) Write(b []byte) (int, error) {
	e.heard.Add(int64(len(b)))
	return len(b), nil
}

func behindProxy(t *testing.T) (*proxy, *echo) {
	t.Helper()
	e := newEcho(t)
	p, err := newProxy(e.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	return p, e
}

func dial(t *testing.T, p *proxy) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", p.address())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// says sends a word and wants it back.
func says(t *testing.T, c net.Conn, word string) {
	t.Helper()
	tell(t, c, word)
	hears(t, c, word)
}

func tell(t *testing.T, c net.Conn, word string) {
	t.Helper()
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
}

func hears(t *testing.T, c net.Conn, word string) {
	t.Helper()
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("got %q, %v, want %q", got, err, word)
	}
}

// hearsNothing says that nothing comes while whatever was written is certainly
// through.
func hearsNothing(t *testing.T, c net.Conn) {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes came, %v", n, err)
	}
	if err := c.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
}

// isReset waits for the connection's end, which must be an error.
func isReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) || n > 0 {
		t.Fatalf("%d bytes and then %v, want a reset", n, err)
	}
}

func TestAProxyPassesOnWhatItIsGiven(t *testing.T) {
	p, _ := behindProxy(t)
	c := dial(t, p)
	says(t, c, "one")
	says(t, c, "two")
	c.Close()
}

func TestACutResetsConnectionsAndLetsNewOnesThrough(t *testing.T) {
	p, _ := behindProxy(t)
	a, b := dial(t, p), dial(t, p)
	says(t, a, "hello")
	says(t, b, "hello")
	if n := p.cut(); n != 2 {
		t.Errorf("%d connections were cut, want 2", n)
	}
	isReset(t, a)
	isReset(t, b)
	says(t, dial(t, p), "again")
}

func TestADelayKeepsBytesBackAndInOrder(t *testing.T) {
	p, _ := behindProxy(t)
	c := dial(t, p)
	says(t, c, "before")
	const by = 30 * time.Millisecond
	heal := p.delay(func() time.Duration { return by })
	began := time.Now()
	tell(t, c, "abc")
	tell(t, c, "def")
	hears(t, c, "abcdef")
	if took := time.Since(began); took < 2*by {
		t.Errorf("there and back took %v, want %v at least", took, 2*by)
	}
	heal()
	says(t, c, "after")
}

func TestWhatIsHeldComesLater(t *testing.T) {
	p, e := behindProxy(t)
	c := dial(t, p)
	says(t, c, "before")
	heal := p.hold(down)
	tell(t, c, "held")
	for e.heard.Load() < int64(len("beforeheld")) { // the way there is open
		time.Sleep(time.Millisecond)
	}
	hearsNothing(t, c)
	heal()
	hears(t, c, "held")
	says(t, c, "after")
}

func TestAHalfOpenConnectionStaysUpAndIsResetInTheEnd(t *testing.T) {
	for name, d := range map[string]direction{"to the service": up, "from the service": down} {
		t.Run(name, func(t *testing.T) {
			p, e := behindProxy(t)
			robbed, silent := dial(t, p), dial(t, p)
			says(t, robbed, "before")
			says(t, silent, "before")
			heal := p.swallow(d)
			tell(t, robbed, "gone")
			hearsNothing(t, robbed)
			heard := int64(len("beforebefore"))
			if d == down {
				heard += int64(len("gone"))
			}
			if got := e.heard.Load(); got != heard {
				t.Errorf("the service heard %d bytes, want %d", got, heard)
			}
			heal()
			isReset(t, robbed) // it would have a hole
			says(t, silent, "after")
			says(t, dial(t, p), "new")
		})
	}
}

func TestTheEndOfAConnectionIsSwallowedToo(t *testing.T) {
	e := newEcho(t)
	ended := make(chan struct{})
	back, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	go func() {
		c, err := back.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(e, c)
		close(ended)
	}()
	p, err := newProxy(back.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.close)
	c := dial(t, p)
	tell(t, c, "x")
	for e.heard.Load() < 1 {
		time.Sleep(time.Millisecond)
	}
	heal := p.swallow(up)
	c.Close()
	select {
	case <-ended:
		t.Error("the service was told of the end")
	case <-time.After(50 * time.Millisecond):
	}
	heal()
	<-ended
}

func TestWithoutItsServiceAProxyRefuses(t *testing.T) {
	p, e := behindProxy(t)
	e.Close()
	c, err := net.Dial("tcp", p.address())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v, want a reset", err)
	}
}

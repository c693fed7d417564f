package wire_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/meet5/backend/gateway/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a server whose every word the test says.
type server struct {
	t        *testing.T
	listener net.Listener
	conns    atomic.Int64 // that were accepted
	ends     sync.WaitGroup
}

// serve serves each connection with a function, which gets its number, from 1. The
// connection is closed when it returns.
func serve(t *testing.T, each func(n int64, c *peer)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, listener: l}
	s.ends.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n := s.conns.Add(1)
			s.ends.Go(func() {
				defer c.Close()
				each(n, &peer{Conn: c, r: bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(s.ends.Wait)
	t.Cleanup(func() { l.Close() })
	return s
}

// pool is a pool of the server, empty again at the end of the test.
func (s *server) pool(change func(*wire.Config)) *wire.Pool {
	at := s.listener.Addr().String()
	cfg := wire.Config{Address: at, Host: at, Dial: (&net.Dialer{}).DialContext, MaxIdle: 8, IdleFor: time.Minute, ReadBuffer: 4 << 10}
	if change != nil {
		change(&cfg)
	}
	p := wire.New(cfg)
	s.t.Cleanup(p.CloseIdle)
	return p
}

// peer is one connection as the server sees it.
type peer struct {
	net.Conn
	r *bufio.Reader
}

// request reads one request; nil is the end of the connection.
func (p *peer) request() *http.Request {
	r, err := http.ReadRequest(p.r)
	if err != nil {
		return nil
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil
	}
	r.Body = io.NopCloser(bytes.NewReader(b))
	return r
}

func (p *peer) say(s string) { _, _ = io.WriteString(p.Conn, s) }

// gone waits until the client has closed the connection.
func (p *peer) gone() { _, _ = io.Copy(io.Discard, p.r) }

const okay = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

func get(t *testing.T) *http.Request { return request(t, http.MethodGet, "") }

func request(t *testing.T, method, body string) *http.Request {
	t.Helper()
	var b io.Reader
	if body != "" {
		b = strings.NewReader(body)
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "http://gateway/v1/me?a=b", b)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// send sends a request and reads the whole answer.
func send(p *wire.Pool, r *http.Request) (status int, body string, err error) {
	res, err := p.Send(r, wire.Options{})
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

func wantOK(t *testing.T, p *wire.Pool, r *http.Request) {
	t.Helper()
	if status, body, err := send(p, r); status != http.StatusOK || body != "ok" || err != nil {
		t.Fatalf("got %d %q %v", status, body, err)
	}
}

func TestARequestIsWrittenAsItIs(t *testing.T) {
	got := make(chan string, 1)
	s := serve(t, func(_ int64, p *peer) {
		var all strings.Builder
		p.r = bufio.NewReader(io.TeeReader(p.Conn, &all))
		if p.request() != nil {
			got <- all.String()
			p.say(okay)
		}
	})
	r := request(t, http.MethodPost, "hello")
	r.Header = http.Header{
		"Accept": {"a", " b "}, "Connection": {"close"}, "Keep-Alive": {"1"}, "Te": {"trailers"}, "Transfer-Encoding": {"chunked"},
		"Content-Length": {"7"}, "Upgrade": {"h2c"}, "Proxy-Connection": {"x"}, "Host": {"evil"}, "Trailer": {"X"}, "X-Time": {"9"},
	}
	res, err := s.pool(nil).Send(r, wire.Options{Name: "X-Time", Value: "5"})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	want := "POST /v1/me?a=b HTTP/1.1\r\nHost: " + s.listener.Addr().String() + "\r\nContent-Length: 5\r\nAccept: a\r\nAccept: b\r\nX-Time: 5\r\n\r\nhello"
	if said := <-got; said != want {
		t.Errorf("it says %q, want %q", said, want)
	}
}

// No field can say anything but itself.
func TestWhatCannotBeSaidIsNotSent(t *testing.T) {
	s := serve(t, func(_ int64, p *peer) {
		if p.request() != nil {
			p.say(okay)
		}
	})
	pool := s.pool(nil)
	for name, change := range map[string]func(*http.Request){
		"a line in a value":       func(r *http.Request) { r.Header["X-A"] = []string{"a\r\nX-B: c"} },
		"a line feed in a value":  func(r *http.Request) { r.Header["X-A"] = []string{"a\nb"} },
		"a zero byte in a value":  func(r *http.Request) { r.Header["X-A"] = []string{"a\x00"} },
		"a line in a name":        func(r *http.Request) { r.Header["X-A: b\r\nX-B"] = []string{"c"} },
		"a blank in a name":       func(r *http.Request) { r.Header["Content-Length "] = []string{"9"} },
		"a field without a name":  func(r *http.Request) { r.Header[""] = []string{"c"} },
		"a blank in the method":   func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\nX: y" },
		"a blank in the query":    func(r *http.Request) { r.URL.RawQuery = "a HTTP/1.1" },
		"a line in the query":     func(r *http.Request) { r.URL.RawQuery = "a\r\nX: y" },
		"a line in an opaque URL": func(r *http.Request) { r.URL.Opaque = "/a\r\nX: y" },
		"a body too short":        func(r *http.Request) { r.ContentLength = 6 },
		"a body too long":         func(r *http.Request) { r.ContentLength = 4 },
	} {
		r := request(t, http.MethodPost, "hello")
		change(r)
		if _, _, err := send(pool, r); err == nil {
			t.Errorf("%s: it was sent", name)
		}
	}
	if n := s.conns.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
	wantOK(t, pool, request(t, http.MethodPost, "hello"))
}

func TestOnlyWhatCanBeHeldIsTaken(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*http.Request)
		takes  bool
	}{
		"as it is":            {func(*http.Request) {}, true},
		"without a body":      {func(r *http.Request) { r.Body, r.ContentLength = http.NoBody, 0 }, true},
		"a body once":         {func(r *http.Request) { r.GetBody = nil }, false},
		"of unknown length":   {func(r *http.Request) { r.ContentLength = -1 }, false},
		"too long":            {func(r *http.Request) { r.ContentLength = wire.MaxBody + 1 }, false},
		"as long as it may":   {func(r *http.Request) { r.ContentLength = wire.MaxBody }, true},
		"with an expectation": {func(r *http.Request) { r.Header.Set("Expect", "100-continue") }, false},
		"a tunnel":            {func(r *http.Request) { r.Method = http.MethodConnect }, false},
	} {
		r := request(t, http.MethodPost, "hello")
		test.change(r)
		if takes := wire.Takes(r); takes != test.takes {
			t.Errorf("%s: %v", name, takes)
		}
	}
}

// A server that closes what nobody uses, or is started anew, must cost nobody a
// request, even one that must not be sent twice.
func TestAClosedConnectionIsNoticedBeforeItIsUsed(t *testing.T) {
	closed := make(chan struct{})
	s := serve(t, func(_ int64, p *peer) {
		if p.request() == nil {
			return
		}
		p.say(okay)
		p.Close()
		closed <- struct{}{}
	})
	pool := s.pool(nil)
	for range 20 {
		wantOK(t, pool, request(t, http.MethodPost, "hello"))
		<-closed
	}
	if n := s.conns.Load(); n != 20 {
		t.Errorf("%d connections", n)
	}
}

// What a server sends that nobody has asked for is nobody's answer.
func TestWhatComesAfterAnAnswerIsNeverTheNextOne(t *testing.T) {
	const other = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother"
	for name, test := range map[string]struct{ method, answer, status, body string }{
		"behind the length":           {"GET", okay, "", "ok"},
		"behind chunks":               {"GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "", "ok"},
		"behind both lengths":         {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 900\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "", "ok"},
		"behind a trailer":            {"GET", "HTTP/1.1 200 OK\r\nTrailer: X-A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: b\r\n\r\n", "", "ok"},
		"behind no content":           {"GET", "HTTP/1.1 204 No Content\r\n\r\n", "204", ""},
		"as the content of none":      {"GET", "HTTP/1.1 204 No Content\r\nContent-Length: 47\r\n\r\n", "204", ""},
		"as chunks of none":           {"GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "204", ""},
		"behind what is not modified": {"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 47\r\n\r\n", "304", ""},
		"behind a head":               {"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 47\r\n\r\n", "", ""},
		"behind nothing":              {"GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", ""},
		"behind one of 1xx":           {"GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + okay, "", "ok"},
	} {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, late %v", name, late), func(t *testing.T) {
				read, said := make(chan struct{}), make(chan struct{})
				s := serve(t, func(n int64, p *peer) {
					switch {
					case p.request() == nil:
					case n > 1:
						p.say(okay)
						p.gone()
					case late:
						p.say(test.answer)
						<-read
						p.say(other)
						close(said)
						p.gone()
					default:
						p.say(test.answer + other)
						p.gone()
					}
				})
				pool := s.pool(nil)
				want := http.StatusOK
				if test.status != "" {
					_, _ = fmt.Sscan(test.status, &want)
				}
				if status, body, err := send(pool, request(t, test.method, "")); status != want || body != test.body || err != nil {
					t.Fatalf("the first: %d %q %v", status, body, err)
				}
				if late {
					close(read)
					<-said
				}
				wantOK(t, pool, request(t, http.MethodPost, "hello"))
			})
		}
	}
}

// Answers are read as net/http reads them.
func TestAnswersAreReadAsNetHTTPDoes(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for name, answer := range map[string]string{
		"plain":                       okay,
		"until the end":               "HTTP/1.1 200 OK\r\n\r\nok",
		"an old one":                  "HTTP/1.0 200 OK\r\n\r\nok",
		"an old one that is kept":     "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
		"too short":                   "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
		"nothing":                     "",
		"half a line":                 "HTTP/1.1 20",
		"half a head":                 "HTTP/1.1 200 OK\r\nX-A: b\r\n",
		"no HTTP":                     "220 mail.example.org ESMTP\r\n\r\n",
		"no status":                   "HTTP/1.1 \r\n\r\n",
		"a negative status":           "HTTP/1.1 -20 OK\r\n\r\n",
		"another version":             "HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"two lengths":                 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
		"one length twice":            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
		"a length with a sign":        "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
		"a negative length":           "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
		"an unknown encoding":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nok",
		"two encodings":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"chunks in an old one":        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		"chunks that break off":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
		"a chunk of a negative size":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-2\r\nok\r\n0\r\n\r\n",
		"a chunk with an extension":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0\r\n\r\n",
		"a trailer that was not said": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: b\r\n\r\n",
		"a blank before a colon":      "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
		"a folded line":               "HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
		"no name":                     "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok",
		"bare line feeds":             "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"a bare carriage return":      "HTTP/1.1 200 OK\r\nX-A: b\rContent-Length: 2\r\n\r\nok",
		"a long one":                  "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + long,
		"a long chunk":                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + long + "\r\n0\r\n\r\n",
		"a head of many lines":        "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: b\r\n", 1000) + "Content-Length: 2\r\n\r\nok",
		"some of 1xx":                 "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n" + okay,
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(_ int64, p *peer) {
				if p.request() != nil {
					p.say(answer)
				}
			})
			transport := &http.Transport{DisableCompression: true}
			defer transport.CloseIdleConnections()
			theirs := said(transport.RoundTrip(withURL(get(t), s)))
			ours := said(s.pool(nil).Send(get(t), wire.Options{}))
			if ours != theirs {
				t.Errorf("got %.200s, net/http gets %.200s", ours, theirs)
			}
		})
	}
}

func withURL(r *http.Request, s *server) *http.Request {
	r.URL.Host = s.listener.Addr().String()
	return r
}

// said is all of an answer but for the text of an error.
func said(res *http.Response, err error) string {
	if err != nil {
		return "an error"
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return fmt.Sprintf("%s %v %v %v %v %q %v", res.Status, res.Header, res.Trailer, res.ContentLength, res.Close, b, err != nil)
}

func TestTheHeadOfAnAnswerIsBounded(t *testing.T) {
	for name, line := range map[string]string{
		"one line":      "HTTP/1.1 200 OK\r\nX-A: " + strings.Repeat("x", 1<<20),
		"many lines":    "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: "+strings.Repeat("x", 100)+"\r\n", 1000) + "\r\n",
		"endless 1xx":   strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 10_000) + okay,
		"a status line": "HTTP/1.1 200 " + strings.Repeat("x", 1<<20),
	} {
		s := serve(t, func(_ int64, p *peer) {
			if p.request() != nil {
				p.say(line)
				p.gone()
			}
		})
		status, _, err := send(s.pool(nil), get(t))
		if err == nil || !strings.Contains(err.Error(), "65536 bytes") {
			t.Errorf("%s: %d, %v", name, status, err)
		}
	}
}

func TestAnotherProtocolIsAnError(t *testing.T) {
	s := serve(t, func(_ int64, p *peer) {
		if p.request() != nil {
			p.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
			p.gone() // only if the client closes it
		}
	})
	if status, _, err := send(s.pool(nil), get(t)); err == nil {
		t.Errorf("got %d", status)
	}
}

// A server may refuse a body while it is still coming.
func TestAnAnswerThatComesBeforeTheBodyIsRead(t *testing.T) {
	const refusal = "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno"
	for name, rest := range map[string]func(*peer){"reads on": (*peer).gone, "closes": func(*peer) {}} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, func(_ int64, p *peer) {
				if _, err := http.ReadRequest(p.r); err == nil {
					p.say(refusal)
					_ = p.Conn.(*net.TCPConn).CloseWrite()
					rest(p)
				}
			})
			pool := s.pool(nil)
			for n := range int64(5) {
				status, body, err := send(pool, request(t, http.MethodPost, strings.Repeat("x", wire.MaxBody)))
				// What is unread when a connection is closed may take the answer with it.
				if (status != http.StatusRequestEntityTooLarge || body != "no") && (err == nil || name == "reads on") {
					t.Fatalf("got %d %q %v", status, body, err)
				}
				if s.conns.Load() != n+1 {
					t.Fatal("the connection is used again, or the request was sent twice")
				}
			}
		})
	}
}

func TestTheEndOfAContextEndsAnExchange(t *testing.T) {
	gone := make(chan struct{}, 1)
	for name, say := range map[string]string{
		"before the answer": "", "in its head": "HTTP/1.1 200 OK\r\nX-A", "in its body": "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf",
		"in a chunk":   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
		"in a trailer": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-A",
	} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan struct{})
			s := serve(t, func(_ int64, p *peer) {
				if p.request() == nil {
					return
				}
				p.say(say)
				close(asked)
				p.gone()
				gone <- struct{}{}
			})
			why := errors.New("why")
			ctx, cancel := context.WithCancelCause(t.Context())
			go func() {
				<-asked
				cancel(why)
			}()
			_, body, err := send(s.pool(nil), get(t).WithContext(ctx))
			if !errors.Is(err, why) {
				t.Errorf("got %q, %v", body, err)
			}
			<-gone
		})
	}
}

func TestAContextThatHasEndedSendsNothing(t *testing.T) {
	s := serve(t, func(_ int64, p *peer) {
		for p.request() != nil {
			p.say(okay)
		}
	})
	pool := s.pool(nil)
	why := errors.New("the client has left")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	for range 2 { // without a connection, and with one
		if status, _, err := send(pool, get(t).WithContext(ctx)); !errors.Is(err, why) {
			t.Errorf("got %d, %v", status, err)
		}
		wantOK(t, pool, get(t))
	}
	if n := s.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
}

// What took too long was sent, and is not sent again.
func TestAnAnswerThatDoesNotBeginInTimeIsAnErrorOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	s := serve(t, func(_ int64, p *peer) {
		if p.request() == nil {
			return
		}
		p.say(okay)
		for p.request() != nil {
			asked.Add(1)
		}
	})
	pool := s.pool(nil)
	wantOK(t, pool, get(t))
	res, err := pool.Send(get(t), wire.Options{Begin: time.Now().Add(time.Second)})
	if err == nil {
		res.Body.Close()
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if n := s.conns.Load(); n != 1 || asked.Load() > 1 {
		t.Errorf("%d connections, asked %d times", n, asked.Load())
	}
}

// Half a line is late, not wrong.
func TestAnAnswerThatIsCutOffInItsHeadIsLate(t *testing.T) {
	t.Parallel()
	s := serve(t, func(_ int64, p *peer) {
		if p.request() != nil {
			p.say("HTTP/1.1 200 OK\r\nX-A")
			p.gone()
		}
	})
	res, err := s.pool(nil).Send(get(t), wire.Options{Begin: time.Now().Add(time.Second)})
	if err == nil {
		res.Body.Close()
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// The time that an answer may take to begin is not that which it may take to end, nor
// that of the next one.
func TestAnAnswerThatHasBegunMayTakeItsTime(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string][2]string{
		"of a length":    {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "ok"},
		"in chunks":      {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "2\r\nok\r\n0\r\n\r\n"},
		"without an end": {"HTTP/1.1 200 OK\r\n\r\n", "ok"},
		"whole":          {okay, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			s := serve(t, func(_ int64, p *peer) {
				if p.request() == nil {
					return
				}
				p.say(answer[0])
				<-over
				p.say(answer[1])
				for name != "without an end" && p.request() != nil {
					p.say(okay)
				}
			})
			pool := s.pool(nil)
			begin := time.Now().Add(time.Second)
			res, err := pool.Send(get(t), wire.Options{Begin: begin})
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			timer := time.NewTimer(time.Until(begin) + time.Millisecond)
			defer timer.Stop()
			<-timer.C
			close(over)
			if b, err := io.ReadAll(res.Body); string(b) != "ok" || err != nil {
				t.Errorf("got %q, %v", b, err)
			}
			if name != "without an end" {
				wantOK(t, pool, request(t, http.MethodPost, "hello"))
			}
		})
	}
}

func TestAConnectionThatTheServerWillCloseIsNotUsedAgain(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	} {
		s := serve(t, func(_ int64, p *peer) {
			for p.request() != nil { // it does not, though
				p.say(answer)
			}
		})
		pool := s.pool(nil)
		wantOK(t, pool, get(t))
		wantOK(t, pool, get(t))
		if n := s.conns.Load(); n != 2 {
			t.Errorf("%d connections for %q", n, answer)
		}
	}
}

// A connection that dies under a request tells nothing of whether it was carried out.
func TestOnlyWhatReadsIsSentAgain(t *testing.T) {
	for name, test := range map[string]struct {
		method, body, half string
		again              bool
	}{
		"a read":               {"GET", "", "", true},
		"a read with a body":   {"GET", "x", "", false},
		"a write":              {"POST", "x", "", false},
		"a write of nothing":   {"POST", "", "", false},
		"a removal":            {"DELETE", "", "", false},
		"a read half answered": {"GET", "", "HTTP/1.1 2", false},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int64
			s := serve(t, func(n int64, p *peer) {
				for count := 1; p.request() != nil; count++ {
					asked.Add(1)
					if n == 1 && count == 2 {
						p.say(test.half)
						return
					}
					p.say(okay)
				}
			})
			pool := s.pool(nil)
			wantOK(t, pool, get(t))
			_, _, err := send(pool, request(t, test.method, test.body))
			want := int64(2)
			if test.again {
				want = 3
			}
			if (err == nil) != test.again || asked.Load() != want {
				t.Errorf("%v after %d requests", err, asked.Load())
			}
		})
	}
}

func TestAConnectionThatCannotBeMadeIsTheDialersError(t *testing.T) {
	s := serve(t, func(int64, *peer) {})
	s.listener.Close()
	_, _, err := send(s.pool(nil), get(t))
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
		t.Errorf("got %v", err)
	}
}

func TestConnectionsAreKeptWithinBounds(t *testing.T) {
	hold := make(chan struct{})
	var waiting, open atomic.Int64
	s := serve(t, func(_ int64, p *peer) {
		open.Add(1)
		defer open.Add(-1)
		for p.request() != nil {
			if waiting.Add(1) == 5 {
				close(hold)
			}
			<-hold
			p.say(okay)
		}
	})
	pool := s.pool(func(c *wire.Config) { c.MaxIdle = 2 })
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() { wantOK(t, pool, get(t)) })
	}
	all.Wait()
	eventually(t, func() bool { return open.Load() == 2 })
	for range 10 {
		wantOK(t, pool, get(t))
	}
	if n := s.conns.Load(); n != 5 {
		t.Errorf("%d connections for one request after the other", n)
	}
	pool.CloseIdle()
	eventually(t, func() bool { return open.Load() == 0 })
	wantOK(t, pool, get(t))
}

func TestConnectionsThatNobodyUsesAreClosed(t *testing.T) {
	gone := make(chan struct{})
	s := serve(t, func(_ int64, p *peer) {
		for p.request() != nil {
			p.say(okay)
		}
		close(gone)
	})
	pool := s.pool(func(c *wire.Config) { c.IdleFor = 10 * time.Millisecond })
	wantOK(t, pool, get(t))
	<-gone
}

// An answer that is not read to its end takes its connection with it.
func TestAnAnswerThatIsGivenUp(t *testing.T) {
	gone := make(chan struct{})
	s := serve(t, func(_ int64, p *peer) {
		if p.request() != nil {
			p.say("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf")
			p.gone()
			close(gone)
		}
	})
	res, err := s.pool(nil).Send(get(t), wire.Options{})
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	<-gone
	if _, err := res.Body.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("it can be read: %v", err)
	}
}

// Many at once, of which some leave: nobody gets an answer that is not theirs.
func TestManyAtOnceEachGetTheirOwn(t *testing.T) {
	s := serve(t, func(n int64, p *peer) {
		for count := int64(0); ; count++ {
			r := p.request()
			if r == nil || (n+count)%17 == 0 {
				return
			}
			b, _ := io.ReadAll(r.Body)
			if r.Method == http.MethodGet {
				b = []byte(r.Header.Get("X-N"))
			}
			p.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b))
		}
	})
	pool := s.pool(nil)
	var all sync.WaitGroup
	var whole atomic.Int64
	for n := range 16 {
		all.Go(func() {
			for i := range 100 {
				own := fmt.Sprintf("%d of %d", i, n)
				r := request(t, http.MethodGet, "")
				if i%2 == 0 {
					r = request(t, http.MethodPost, own)
				}
				r.Header.Set("X-N", own)
				ctx, cancel := context.WithCancel(t.Context())
				if i%5 == 0 {
					go cancel()
				}
				status, body, err := send(pool, r.WithContext(ctx))
				cancel()
				if err == nil {
					whole.Add(1)
				}
				if err == nil && (status != http.StatusOK || body != own) {
					t.Errorf("%s got %d %q", own, status, body)
				}
			}
		})
	}
	all.Wait()
	if whole.Load() < 800 {
		t.Errorf("of 1,600 only %d were answered", whole.Load())
	}
}

func eventually(t *testing.T, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-t.Context().Done():
			t.Fatal("it did not happen")
		}
	}
}

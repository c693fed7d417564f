package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/run"
)

// seen is a request as it reached a service.
type seen struct {
	line   string // method and target
	body   string
	header http.Header
}

// front is a gateway on a real socket, before one service on another.
type front struct {
	*house
	address string

	mu   sync.Mutex
	seen []seen
}

func newFront(t *testing.T, cfg gateway.Config) *front {
	t.Helper()
	f := &front{}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		f.mu.Lock()
		defer f.mu.Unlock()
		f.seen = append(f.seen, seen{r.Method + " " + r.RequestURI, string(b), r.Header.Clone()})
		_, _ = io.WriteString(w, "reached")
	}))
	t.Cleanup(service.Close)
	at, err := url.Parse(service.URL)
	if err != nil {
		t.Fatal(err)
	}
	f.house = newHouse(t, cfg, func(d *gateway.Deps) {
		r := gateway.Remote([]*url.URL{at}, gateway.RemoteOptions{})
		d.Upstreams = gateway.Upstreams{User: r, Activity: r, Fraud: r, Projections: r}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.address = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- run.Group(ctx, f.gateway.Run, func(ctx context.Context) error {
			return run.HTTP(ctx, run.Server{Listener: listener, Handler: f.handler})
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return f
}

// enough is how long an attack may wait for an answer that does not come.
const enough = 3 * time.Second

// raw sends bytes as they are, and a plain request of the gateway's own page behind
// them, and returns the statuses of the answers until the gateway closes the
// connection.
func (f *front) raw(sent string) (statuses []int) {
	f.t.Helper()
	c, err := net.Dial("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	// The last request has the gateway close the connection. Where an attack has it
	// wait for the rest of a body, there is nothing more to come.
	if _, err := io.WriteString(c, sent+"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		f.t.Fatal(err)
	}
	if err := c.SetReadDeadline(time.Now().Add(enough)); err != nil {
		f.t.Fatal(err)
	}
	r := bufio.NewReader(c)
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return statuses
		}
		if _, err := io.Copy(io.Discard, res.Body); err != nil {
			return statuses
		}
		statuses = append(statuses, res.StatusCode)
	}
}

func (f *front) reached() []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := f.seen
	f.seen = nil
	return all
}

// smuggled is a request that no client may make. As a body, or behind one, it must
// never reach a service as a request.
const smuggled = "POST /internal/users/cards HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"

func TestNoRequestIsSmuggledThroughTheGateway(t *testing.T) {
	f := newFront(t, gateway.Config{})
	post := "POST /v1/sessions HTTP/1.1\r\nHost: x\r\n"
	chunk := fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(smuggled), smuggled)
	for name, attack := range map[string]struct {
		sent  string
		first int // the status of the first answer; 0: any, or none
	}{
		"both lengths, CL.TE":               {post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled, 0},
		"both lengths, TE.CL":               {post + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk, 0},
		"two lengths":                       {post + fmt.Sprintf("Content-Length: 0\r\nContent-Length: %d\r\n\r\n", len(smuggled)) + smuggled, 400},
		"two lengths on a line":             {post + "Content-Length: 0, 90\r\n\r\n" + smuggled, 400},
		"a length with a sign":              {post + "Content-Length: +0\r\n\r\n" + smuggled, 400},
		"a negative length":                 {post + "Content-Length: -1\r\n\r\n" + smuggled, 400},
		"a length in hexadecimal":           {post + "Content-Length: 0x10\r\n\r\n" + smuggled, 400},
		"a length with a blank":             {post + "Content-Length: 1 0\r\n\r\n" + smuggled, 400},
		"a blank before the colon":          {post + "Transfer-Encoding : chunked\r\n\r\n" + chunk, 400},
		"an unknown encoding":               {post + "Transfer-Encoding: xchunked\r\n\r\n" + chunk, 501},
		"two encodings":                     {post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n" + chunk, 501},
		"two encodings on a line":           {post + "Transfer-Encoding: chunked, identity\r\n\r\n" + chunk, 501},
		"an encoding behind a vertical tab": {post + "Transfer-Encoding: \x0bchunked\r\n\r\n" + chunk, 0},
		"a folded line":                     {post + "X-A: b\r\n\tTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + chunk, 0},
		"a folded first line":               {"POST /v1/sessions HTTP/1.1\r\n Host: x\r\n\r\n" + smuggled, 400},
		"bare line feeds":                   {strings.ReplaceAll(post, "\r\n", "\n") + "Content-Length: 0\n\n" + smuggled, 0},
		"a bare line feed in a chunk":       {post + "Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n" + smuggled, 0},
		"a bare carriage return":            {post + "X-A: b\rTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n" + chunk, 400},
		"a zero byte":                       {post + "X-A: b\x00c\r\nContent-Length: 0\r\n\r\n" + smuggled, 400},
		"no host":                           {"POST /v1/sessions HTTP/1.1\r\nContent-Length: 0\r\n\r\n" + smuggled, 400},
		"two hosts":                         {post + "Host: y\r\nContent-Length: 0\r\n\r\n" + smuggled, 400},
		"a chunk that ends too late":        {post + "Transfer-Encoding: chunked\r\n\r\n1\r\n" + smuggled, 0},
		"a chunk of a size out of bounds":   {post + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n" + smuggled, 0},
		"a chunk of a negative size":        {post + "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + smuggled, 0},
		"an endless chunk extension":        {post + "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("x", 1<<16) + "\r\na\r\n0\r\n\r\n" + smuggled, 0},
		"a request behind one":              {post + "Content-Length: 0\r\n\r\n" + smuggled, 200},
		"a request behind an old one":       {"POST /v1/sessions HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n" + chunk + smuggled, 0},
		"a request in a body of a GET":      {fmt.Sprintf("GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", len(smuggled)) + smuggled, 200},
		"another protocol":                  {post + "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nContent-Length: 0\r\n\r\n" + smuggled, 200},
		"a web socket":                      {"GET /.well-known/jwks.json HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n" + smuggled, 200},
		"an absolute target":                {"POST http://x/internal/users/cards HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404},
		"an absolute target with a user":    {"POST http://user@x/internal/users/cards HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}", 404},
		"a fragment":                        {"GET /.well-known/jwks.json#/../../internal/users/cards HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"a fragment with a dot segment":     {"GET /internal/users/cards#/v1/me HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"dot segments":                      {"GET /v1/me/../../internal/users/cards HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"two slashes":                       {"GET //internal/users/cards HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"a question in the path":            {"GET /.well-known/jwks.json%3f/../../internal HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"a line feed in the path":           {"GET /.well-known/jwks.json%0d%0aX:y HTTP/1.1\r\nHost: x\r\n\r\n", 404},
		"a tunnel":                          {"CONNECT internal:80 HTTP/1.1\r\nHost: internal:80\r\n\r\n" + smuggled, 404},
		"an asterisk":                       {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 0},
		"no version":                        {"GET /internal/users/cards\r\n\r\n", 400},
		"a version of nobody's":             {"GET /internal/users/cards HTTP/3.7\r\nHost: x\r\n\r\n", 505},
		"a target of two words":             {"GET /v1/me /internal/users/cards HTTP/1.1\r\nHost: x\r\n\r\n", 400},
		"a method with a line end":          {"GE\rT /v1/me HTTP/1.1\r\nHost: x\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			statuses := f.raw(attack.sent)
			if attack.first != 0 && (len(statuses) == 0 || statuses[0] != attack.first) {
				t.Errorf("answered with %v, want %d first", statuses, attack.first)
			}
			for _, s := range f.reached() {
				if strings.Contains(s.line, "internal") || s.line != "POST /v1/sessions" && s.line != "GET /.well-known/jwks.json" {
					t.Errorf("a service was asked for %s", s.line)
				}
				for _, name := range []string{"Upgrade", "Transfer-Encoding", "Te", "Http2-Settings"} {
					if v := s.header[name]; v != nil {
						t.Errorf("a service got %s: %v", name, v)
					}
				}
			}
		})
	}
	// After all that, the connections to the service are in step.
	f.t = t
	for range 20 {
		if got := f.raw(post + "Content-Length: 2\r\n\r\n{}"); len(got) != 2 || got[0] != 200 {
			t.Fatalf("a plain request is answered with %v", got)
		}
	}
	for _, s := range f.reached() {
		if s.line != "POST /v1/sessions" || s.body != "{}" {
			t.Errorf("a plain request came as %+v", s)
		}
	}
}

func TestNoHeaderOfAClientSaysWhereItComesFrom(t *testing.T) {
	f := newFront(t, gateway.Config{RateLimits: true})
	allowed := 0
	names := []string{"X-Forwarded-For", "Forwarded", "X-Real-Ip", "True-Client-Ip", "Cf-Connecting-Ip", "X-Client-Ip", "X-Forwarded-Host", "x-forwarded-for"}
	for n := range 60 {
		name := names[n%len(names)]
		value := fmt.Sprintf("203.0.113.%d", n)
		got := f.raw(fmt.Sprintf("POST /v1/sessions HTTP/1.1\r\nHost: x\r\n%s: %s\r\nConnection: X-Forwarded-For\r\nContent-Length: 0\r\n\r\n", name, value))
		if len(got) != 2 {
			t.Fatalf("answered with %v", got)
		}
		if got[0] == http.StatusOK {
			allowed++
		}
	}
	if allowed != 20 { // the clock stands still: the burst of an address
		t.Errorf("one address got %d requests through with headers that say it is others", allowed)
	}
	for _, s := range f.reached() {
		if s.header.Get("X-Forwarded-For") != "127.0.0.1" || len(s.header["X-Forwarded-For"]) != 1 {
			t.Errorf("a service was told %v", s.header["X-Forwarded-For"])
		}
		for _, name := range names[1:7] {
			if s.header.Get(name) != "" {
				t.Errorf("a service was told %s: %s", name, s.header.Get(name))
			}
		}
		if strings.Contains(fmt.Sprint(s.header), "203.0.113") {
			t.Errorf("a service was told %v", s.header)
		}
	}
}

// A trailer is no header: what it says of who sent it counts for nothing.
func TestATrailerIsNoHeader(t *testing.T) {
	f := newFront(t, gateway.Config{})
	bearer := f.bearer(uuid.New(), "moderator")
	got := f.raw("POST /v1/sessions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X-Note\r\n\r\n2\r\n{}\r\n0\r\n" +
		"Authorization: " + bearer + "\r\nX-Forwarded-For: 203.0.113.9\r\nX-Note: hi\r\n\r\n")
	if len(got) != 2 {
		t.Errorf("answered with %v", got)
	}
	for _, s := range f.reached() {
		if s.header.Get("Authorization") != "" || s.header.Get("X-Forwarded-For") != "127.0.0.1" || s.header.Get("X-Note") != "" {
			t.Errorf("a service got %v", s.header)
		}
	}
	got = f.raw("POST /v1/moderation/flags/next HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: " + bearer + "\r\n\r\n")
	if len(got) == 0 || got[0] != http.StatusUnauthorized {
		t.Errorf("signed in by a trailer: %v", got)
	}
}

// A body that says that it is a gigabyte is refused before it is sent, and one that
// does not say so soon after the bound.
func TestAGigabyteIsRefusedAtTheDoor(t *testing.T) {
	f := newFront(t, gateway.Config{})
	bearer := f.bearer(uuid.New())
	for name, length := range map[string]string{
		"said": "POST /v1/users HTTP/1.1\r\nContent-Length: 1073741824", "not said": "POST /v1/users HTTP/1.1\r\nTransfer-Encoding: chunked",
		"said, to a list": "GET /v1/me/visitors HTTP/1.1\r\nContent-Length: 1073741824", "not said, to a list": "GET /v1/me/visitors HTTP/1.1\r\nTransfer-Encoding: chunked",
		"not said, to events": "GET /v1/me/events HTTP/1.1\r\nTransfer-Encoding: chunked",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", f.address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := fmt.Fprintf(c, "%s\r\nHost: x\r\nAuthorization: %s\r\nContent-Type: application/json\r\n\r\n", length, bearer); err != nil {
				t.Fatal(err)
			}
			sent := make(chan int, 1)
			go func() {
				piece := []byte("10000\r\n" + strings.Repeat("x", 1<<16) + "\r\n")
				if strings.HasPrefix(name, "said") {
					piece = piece[7 : 7+1<<16]
				}
				n := 0
				for n < 1<<30 {
					m, err := c.Write(piece)
					if n += m; err != nil {
						break
					}
				}
				sent <- n
			}()
			res, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
				t.Errorf("answered with %v %v", res, err)
			}
			_ = c.SetReadDeadline(time.Now()) // whatever else comes is of no interest
			// The gateway hangs up: what is sent beyond what is on its way fails.
			if n := <-sent; n > 64<<20 {
				t.Errorf("it took %d bytes", n)
			}
			for _, s := range f.reached() {
				if len(s.body) > 64<<10 {
					t.Errorf("%d bytes reached a service", len(s.body))
				}
			}
		})
	}
}

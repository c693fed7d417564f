package gateway_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
)

// through is a gateway on a socket before a service; it sends a request and returns
// the answer.
func through(t *testing.T, service http.Handler) func(method, path, body string, changes ...with) *http.Response {
	t.Helper()
	at := elsewhere(t, service)
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		up := gateway.Remote([]*url.URL{at}, gateway.RemoteOptions{})
		d.Upstreams.User, d.Upstreams.Activity, d.Upstreams.Projections = up, up, up
	})
	door := elsewhere(t, h.handler)
	transport := &http.Transport{DisableCompression: true}
	t.Cleanup(transport.CloseIdleConnections)
	return func(method, path, body string, changes ...with) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, door.String()+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", h.bearer(uuid.New(), "analyst"))
		for _, change := range changes {
			change(r)
		}
		res, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return res
	}
}

func TestWhatIsOfAConnectionDoesNotPass(t *testing.T) {
	var got http.Header
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		got = r.Header.Clone()
		h := w.Header()
		h.Set("Connection", "X-Of-Service")
		h.Set("X-Of-Service", "a")
		h.Set("Keep-Alive", "timeout=1")
		h.Set("Proxy-Authenticate", "Basic")
		h.Set("Cache-Control", "max-age=7")
		h.Set("Server", "of the service")
		h.Add("Vary", "Accept")
		h.Add("Vary", "Cookie")
		w.WriteHeader(http.StatusTeapot)
	})
	of := func(r *http.Request) {
		r.Header["Connection"] = []string{"X-Of-Client, keep-alive", "x-forwarded-for"}
		for _, name := range []string{"X-Of-Client", "Keep-Alive", "Te", "Proxy-Authorization", "Proxy-Connection", "Upgrade"} {
			r.Header.Set(name, "a")
		}
		r.Header.Set("X-Own", "b")
	}
	long := strings.Repeat("x", 100_000) // goes another way
	send := through(t, service)
	for name, request := range map[string][3]string{"short": {"GET", "/v1/me", ""}, "long": {"POST", "/v1/activities/batch", long}} {
		t.Run(name, func(t *testing.T) {
			res := send(request[0], request[1], request[2], of)
			if res.StatusCode != http.StatusTeapot || len(res.Header["Vary"]) != 2 {
				t.Errorf("got %s %v", res.Status, res.Header)
			}
			if said := res.Header["Cache-Control"]; len(said) != 1 || said[0] != "max-age=7" {
				t.Errorf("Cache-Control is %v", said)
			}
			for _, name := range []string{"X-Of-Service", "Keep-Alive", "Proxy-Authenticate", "Server"} {
				if v := res.Header[name]; v != nil {
					t.Errorf("a client got %s: %v", name, v)
				}
			}
			for _, name := range []string{"X-Of-Client", "Connection", "Keep-Alive", "Te", "Proxy-Authorization", "Proxy-Connection", "Upgrade"} {
				if v := got[name]; v != nil {
					t.Errorf("a service got %s: %v", name, v)
				}
			}
			if got.Get("X-Own") != "b" || got.Get("X-Forwarded-For") != "127.0.0.1" || got.Get("X-Request-Timeout") == "" {
				t.Errorf("a service got %v", got)
			}
		})
	}
}

func TestABodyTooLongToBeHeldIsPassedOn(t *testing.T) {
	send := through(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}))
	for _, n := range []int{0, 1, 4 << 10, 64 << 10, 64<<10 + 1, 1 << 20} {
		body := strings.Repeat("x", n)
		for name, change := range map[string]with{
			"said": func(*http.Request) {}, "not said": func(r *http.Request) { r.ContentLength = -1 },
			"asked": header("Expect", "100-continue"),
		} {
			res := send("POST", "/v1/activities/batch", body, change)
			if got, err := io.ReadAll(res.Body); string(got) != body || err != nil {
				t.Errorf("%s: of %d bytes came %d, %v", name, n, len(got), err)
			}
		}
	}
}

func TestTrailersArePassedOn(t *testing.T) {
	for name, announce := range map[string]bool{"announced": true, "not announced": false} {
		service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			prefix := http.TrailerPrefix
			if announce {
				w.Header().Set("Trailer", "X-Sum")
				prefix = ""
			}
			_, _ = io.WriteString(w, "whole")
			w.(http.Flusher).Flush()
			w.Header().Set(prefix+"X-Sum", "7")
		})
		res := through(t, service)("GET", "/v1/me", "")
		if b, err := io.ReadAll(res.Body); string(b) != "whole" || err != nil || res.Trailer.Get("X-Sum") != "7" {
			t.Errorf("%s: %q %v %v", name, b, err, res.Trailer)
		}
	}
}

// A service may say something before its answer; it is not the answer.
func TestWhatComesBeforeAnAnswerIsNotPassedOn(t *testing.T) {
	service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", "</a>")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		_, _ = io.WriteString(w, "well")
	})
	res := through(t, service)("GET", "/v1/me", "")
	if b, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(b) != "well" || err != nil || res.Header.Get("Link") != "" {
		t.Errorf("got %s %q %v %v", res.Status, b, err, res.Header)
	}
}

func TestAServiceCannotSwitchToAnotherProtocol(t *testing.T) {
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(io.Discard, c)
	})
	send := through(t, service)
	for name, body := range map[string]string{"short": "{}", "long": strings.Repeat("x", 100_000)} {
		if res := send("POST", "/v1/activities/batch", body); res.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s: got %s", name, res.Status)
		}
	}
}

// What two readers could understand in two ways reaches no service.
func TestOddParametersAreDropped(t *testing.T) {
	var got string
	send := through(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.RawQuery }))
	for query, want := range map[string]string{
		"a=b&c=d": "a=b&c=d", "a=b;c=d&e=f": "e=f", "a=%zz&e=f": "e=f", "a=%2": "", "a=%20b": "a=%20b", "": "",
	} {
		if res := send("GET", "/v1/me?"+query, ""); res.StatusCode != http.StatusOK || got != want {
			t.Errorf("of %q came %q: %s", query, got, res.Status)
		}
	}
}

// A service that is started anew has closed its connections; nobody's request is lost
// in one of them, whatever it does.
func TestAServiceThatHangsUpAfterEachAnswerLosesNothing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	closed := make(chan struct{}, 1)
	var conns sync.WaitGroup
	t.Cleanup(conns.Wait)
	t.Cleanup(func() { l.Close() })
	conns.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
				_, _ = io.Copy(io.Discard, r.Body)
				asked.Add(1)
				fmt.Fprint(c, "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}")
			}
			c.Close()
			closed <- struct{}{}
		}
	})
	up := gateway.Remote([]*url.URL{{Scheme: "http", Host: l.Addr().String()}}, gateway.RemoteOptions{})
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = up })
	for n := range int64(50) {
		if rec := h.do("POST", "/v1/users", `{"handle":"anna"}`); rec.Code != http.StatusCreated || asked.Load() != n+1 {
			t.Fatalf("request %d: %d, asked %d times: %s", n, rec.Code, asked.Load(), rec.Body)
		}
		<-closed
	}
}

package gateway_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/run"
)

// decoding is the bare handler: it only decodes the body with encoding/json.
func decoding() http.Handler {
	e := echo.New()
	e.POST("/v1/activities", func(c echo.Context) error {
		var body struct {
			Type   string `json:"type"`
			Target string `json:"target"`
		}
		if err := json.NewDecoder(c.Request().Body).Decode(&body); err != nil {
			return err
		}
		return c.NoContent(http.StatusCreated)
	})
	return e
}

const (
	// connections is how many clients send at once, each on its own connection.
	connections = 64
	// burst is how many requests are sent to each handler in turn.
	burst = 10_000
)

func serve(b *testing.B, h http.Handler) string {
	b.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run.HTTP(ctx, run.Server{Listener: listener, Handler: h}) }()
	b.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return listener.Addr().String()
}

// flood sends n requests and returns the time. Its clients are thin, since they
// share the processors with what they measure.
func flood(b *testing.B, addr string, request []byte, n int) time.Duration {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var clients sync.WaitGroup
	start := time.Now()
	for range connections {
		clients.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					b.Error(err)
					return
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusCreated {
					b.Errorf("%s, %v", res.Status, err)
					return
				}
			}
		})
	}
	clients.Wait()
	return time.Since(start)
}

// BenchmarkTheDoorBesideABareHandler puts the gateway before a bare handler, and
// reports its rate beside that of the handler alone.
func BenchmarkTheDoorBesideABareHandler(b *testing.B) {
	h := newHouse(b, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.Activity = decoding() })
	body := fmt.Sprintf(`{"type":"visit","target":%q}`, someID)
	request := fmt.Appendf(nil, "POST /v1/activities HTTP/1.1\r\nHost: meet5\r\nContent-Type: application/json\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s",
		h.bearer(uuid.New()), len(body), body)
	bare, door := serve(b, decoding()), serve(b, h.handler)
	var bareTook, took time.Duration
	for b.Loop() {
		bareTook += flood(b, bare, request, burst)
		took += flood(b, door, request, burst)
	}
	b.ReportMetric(float64(b.N*burst)/bareTook.Seconds(), "bare/s")
	b.ReportMetric(float64(b.N*burst)/took.Seconds(), "door/s")
	b.ReportMetric(bareTook.Seconds()/took.Seconds(), "ratio")
	b.ReportMetric(0, "ns/op")
}

// discard is a ResponseWriter that costs nothing.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}

// BenchmarkTheDoor is what the gateway itself adds to a request, without a network.
func BenchmarkTheDoor(b *testing.B) {
	for name, cfg := range map[string]gateway.Config{"limits on": {RateLimits: true}, "limits off": {}} {
		b.Run(name, func(b *testing.B) {
			h := newHouse(b, cfg, func(d *gateway.Deps) {
				d.Upstreams.Activity = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
			})
			r := httptest.NewRequest("POST", "/v1/activities", strings.NewReader("{}"))
			r.Header.Set("Authorization", h.bearer(uuid.New()))
			r.Header.Set("Content-Type", "application/json")
			w := discard{make(http.Header)}
			b.ReportAllocs()
			for b.Loop() {
				clear(w.header)
				delete(r.Header, "X-Request-Id")
				h.clock.advance(20 * time.Millisecond) // one interval of the class
				h.handler.ServeHTTP(w, r)
				if w.header.Get("WWW-Authenticate") != "" {
					b.Fatal("the token has expired")
				}
			}
		})
	}
}

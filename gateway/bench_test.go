package gateway_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/loadtest"
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

// burst is how many requests are sent to each handler in turn.
const burst = 10_000

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
		bareTook += loadtest.Flood(b, bare, burst, request)
		took += loadtest.Flood(b, door, burst, request)
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

package gateway_test

import (
	"fmt"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/loadtest"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// least is what every service of ours does at least: our HTTP edge, the token, and
// a small answer.
func least(v *token.Verifier) http.Handler {
	e := web.New(web.Options{Service: "user"})
	e.GET("/v1/me", func(c echo.Context) error {
		caller, _ := token.FromContext(c.Request().Context())
		return c.JSON(http.StatusCreated, map[string]string{"id": caller.Subject.String(), "handle": "anna"})
	}, token.Require(v))
	return e
}

// elsewhereBench is a service called directly, through a gateway, and through Go's
// own reverse proxy with nothing else in front of it, each over loopback.
func elsewhereBench(b *testing.B) (direct, bare, door string, request []byte) {
	b.Helper()
	var h *house
	var verifier *token.Verifier
	h = newHouse(b, gateway.Config{}, func(d *gateway.Deps) {
		verifier = d.Verifier
		direct = serve(b, least(verifier))
		d.Upstreams.User = gateway.Remote([]*url.URL{{Scheme: "http", Host: direct}}, gateway.RemoteOptions{})
	})
	request = fmt.Appendf(nil, "GET /v1/me HTTP/1.1\r\nHost: meet5\r\nAuthorization: %s\r\n\r\n", h.bearer(uuid.New()))
	transport := &http.Transport{MaxIdleConnsPerHost: 2 * loadtest.Connections, DisableCompression: true}
	b.Cleanup(transport.CloseIdleConnections)
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: direct})
	proxy.Transport = transport
	return direct, serve(b, proxy), serve(b, h.handler), request
}

// BenchmarkTheDoorToAServiceElsewhere reports requests/s through the gateway beside
// those of the same service called directly, and through a bare proxy: what any
// proxy of net/http costs.
func BenchmarkTheDoorToAServiceElsewhere(b *testing.B) {
	direct, proxy, door, request := elsewhereBench(b)
	var directTook, bareTook, took, directWork, work time.Duration
	for b.Loop() {
		begin := worked(b)
		directTook += loadtest.Flood(b, direct, burst, request)
		directWork += worked(b) - begin
		bareTook += loadtest.Flood(b, proxy, burst, request)
		begin = worked(b)
		took += loadtest.Flood(b, door, burst, request)
		work += worked(b) - begin
	}
	b.ReportMetric(float64(b.N*burst)/directTook.Seconds(), "direct/s")
	b.ReportMetric(float64(b.N*burst)/bareTook.Seconds(), "bare-proxy/s")
	b.ReportMetric(float64(b.N*burst)/took.Seconds(), "door/s")
	b.ReportMetric(directTook.Seconds()/took.Seconds(), "ratio")
	b.ReportMetric(directWork.Seconds()/work.Seconds(), "work-ratio")
	b.ReportMetric(work.Seconds()/float64(b.N*burst)*1e6, "work-us")
	b.ReportMetric(0, "ns/op")
}

// worked is how long processors have worked for this process. Unlike time, it says
// much the same on a machine that others use.
func worked(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkTheDoorAddsAtHalfLoad reports what the gateway adds to the median and to
// the 99th percentile while half of the requests/s come that it can do.
func BenchmarkTheDoorAddsAtHalfLoad(b *testing.B) {
	direct, proxy, door, request := elsewhereBench(b)
	loadtest.Flood(b, direct, burst, request) // tokens, connections and code are warm
	perSecond := burst / loadtest.Flood(b, door, burst, request).Seconds() / 2
	var plain, bare, through []time.Duration
	for b.Loop() {
		plain = append(plain, loadtest.Pace(b, direct, perSecond, request)...)
		bare = append(bare, loadtest.Pace(b, proxy, perSecond, request)...)
		through = append(through, loadtest.Pace(b, door, perSecond, request)...)
	}
	at := func(of []time.Duration, share float64) float64 {
		slices.Sort(of)
		return of[int(share*float64(len(of)-1))].Seconds() * 1000
	}
	b.ReportMetric(perSecond, "requests/s")
	b.ReportMetric(at(through, .5)-at(plain, .5), "added-p50-ms")
	b.ReportMetric(at(through, .99)-at(plain, .99), "added-p99-ms")
	b.ReportMetric(at(bare, .99)-at(plain, .99), "bare-proxy-added-p99-ms")
	b.ReportMetric(at(plain, .99), "direct-p99-ms")
	b.ReportMetric(0, "ns/op")
}

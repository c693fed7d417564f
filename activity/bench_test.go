package activity_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/service/loadtest"
	"github.com/meet5/backend/service/run"
)

// bare is what the service is measured against: an echo handler that decodes the
// same body with encoding/json and answers 201.
func bare() http.Handler {
	e := echo.New()
	e.POST(single, func(c echo.Context) error {
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

// serve serves a handler on loopback until the benchmark ends.
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

// burst is how many requests are sent to each handler in turn.
const burst = 10_000

// BenchmarkOneActivityBesideBareEcho reports both rates in one run and their
// ratio, which is to be a third or more with the gateway before the service. The
// activities of one member share a partition and so their commits; those of many
// are spread over all partitions.
func BenchmarkOneActivityBesideBareEcho(b *testing.B) {
	for name, members := range map[string]int{"one_member": 1, "many_members": loadtest.Connections} {
		b.Run(name, func(b *testing.B) { besideBare(b, members) })
	}
}

func besideBare(b *testing.B, members int) {
	w := newWorld(b, func(d *activity.Deps) { d.Clock = time.Now })
	w.clock.Set(time.Now())
	w.run()
	target := w.newUser()
	body := fmt.Sprintf(`{"type":"visit","target":%q}`, target)
	requests := make([][]byte, members)
	for i := range requests {
		requests[i] = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: meet5\r\nContent-Type: application/json\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s",
			single, w.token(w.newUser()), len(body), body)
	}
	bareAddr, addr := serve(b, bare()), serve(b, w.handler)
	loadtest.Flood(b, addr, burst, requests...) // tokens, connections and tails are warm
	var bareTook, took, bareWork, work time.Duration
	for b.Loop() {
		start := processorTime(b)
		bareTook += loadtest.Flood(b, bareAddr, burst, requests...)
		between := processorTime(b)
		took += loadtest.Flood(b, addr, burst, requests...)
		bareWork += between - start
		work += processorTime(b) - between
	}
	b.ReportMetric(float64(b.N*burst)/bareTook.Seconds(), "bare/s")
	b.ReportMetric(float64(b.N*burst)/took.Seconds(), "activities/s")
	b.ReportMetric(bareTook.Seconds()/took.Seconds(), "ratio")
	b.ReportMetric(bareWork.Seconds()/work.Seconds(), "cpu-ratio")
	b.ReportMetric(0, "ns/op")
}

// processorTime is what this process has used, clients included. Unlike the time
// on the clock it hardly depends on what else the machine does.
func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkBatch is batches of one member, decoded, written and answered.
func BenchmarkBatch(b *testing.B) {
	w := newWorld(b).run()
	ann, bob := w.newUser(), w.newUser()
	bearer := w.token(ann)
	const n = 1000
	body := strings.Repeat(fmt.Sprintf("{\"type\":\"visit\",\"target\":%q}\n", bob), n)
	for b.Loop() {
		if rec := w.post(lines, bearer, body); rec.Code != 200 || bytes.Count(rec.Body.Bytes(), []byte(`"status":201`)) != n {
			b.Fatal(rec.Code, rec.Body)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/activity")
}

// BenchmarkHandler is one activity without the network, 64 at once, and the bare
// handler for comparison. What matters is cpu-ns/op: the time on the clock is
// mostly the disk's.
func BenchmarkHandler(b *testing.B) {
	w := newWorld(b, func(d *activity.Deps) { d.Clock = time.Now })
	w.clock.Set(time.Now())
	w.run()
	body := fmt.Sprintf(`{"type":"visit","target":%q}`, w.newUser())
	bearer := "Bearer " + w.token(w.newUser())
	for name, h := range map[string]http.Handler{"service": w.handler, "bare": bare()} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetParallelism(loadtest.Connections / 2)
			start := processorTime(b)
			b.RunParallel(func(pb *testing.PB) {
				rec := &lastStatus{header: make(http.Header)}
				for pb.Next() {
					r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, single, strings.NewReader(body))
					if err != nil {
						b.Error(err)
						return
					}
					r.Header["Content-Type"] = []string{"application/json"}
					r.Header["Authorization"] = []string{bearer}
					clear(rec.header)
					if h.ServeHTTP(rec, r); rec.status != http.StatusCreated {
						b.Errorf("status %d", rec.status)
						return
					}
				}
			})
			b.ReportMetric(float64((processorTime(b)-start).Nanoseconds())/float64(b.N), "cpu-ns/op")
		})
	}
}

// lastStatus is an answer of which only the status is kept.
type lastStatus struct {
	header http.Header
	status int
}

func (l *lastStatus) Header() http.Header         { return l.header }
func (l *lastStatus) Write(p []byte) (int, error) { return len(p), nil }
func (l *lastStatus) WriteHeader(status int)      { l.status = status }

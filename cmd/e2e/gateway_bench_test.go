package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/loadtest"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
)

// benchBurst is how many requests are sent each way in turn.
const benchBurst = 4000

// BenchmarkTheGatewayBesideTheServices puts a gateway before the real services, each
// behind a listener of its own, and reports its requests/s beside those of the same
// services called directly.
func BenchmarkTheGatewayBesideTheServices(b *testing.B) {
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	serve := func(run func(ctx context.Context, l net.Listener) error) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		running.Go(func() {
			if err := run(ctx, l); err != nil {
				b.Error(err)
			}
		})
		return l.Addr().String()
	}
	handler := func(h http.Handler) string {
		return serve(func(ctx context.Context, l net.Listener) error {
			return run.HTTP(ctx, run.Server{Listener: l, Handler: h})
		})
	}
	all, err := backend.New(ctx, backend.Config{Where: backend.Where{Data: b.TempDir()}}, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	defer all.Close()
	defer running.Wait()
	defer stop()
	serve(all.Run)
	if err := all.WaitReady(ctx); err != nil {
		b.Fatal(err)
	}
	services := map[string]string{"user": handler(all.User.Handler()), "activity": handler(all.Activity.Handler()), "projections": handler(all.Projections.Handler())}
	remote := func(name string, o gateway.RemoteOptions) gateway.Upstream {
		return gateway.Remote([]*url.URL{{Scheme: "http", Host: services[name]}}, o)
	}
	g, err := gateway.New(gateway.Config{}, gateway.Deps{
		Verifier: token.NewVerifier(all.User.KeySet(), time.Now),
		Upstreams: gateway.Upstreams{
			User: remote("user", gateway.RemoteOptions{}), Activity: remote("activity", gateway.RemoteOptions{ByActor: true}),
			Projections: remote("projections", gateway.RemoteOptions{}), Fraud: all.Fraud.Handler(),
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	door := handler(g.Handler())
	running.Go(func() { _ = g.Run(ctx) })

	bearer := benchMember(b, door, "anna")
	var bert struct{ ID uuid.UUID }
	benchAsk(b, door, "GET", "/v1/me", benchMember(b, door, "bert"), nil, &bert)
	like := fmt.Sprintf(`{"type":"visit","target":%q}`, bert.ID)
	for _, test := range []struct{ service, route, body string }{
		{"user", "GET /v1/me", ""}, {"projections", "GET /v1/me/stats", ""}, {"activity", "POST /v1/activities", like},
	} {
		b.Run(test.route, func(b *testing.B) {
			request := fmt.Appendf(nil, "%s HTTP/1.1\r\nHost: meet5\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
				test.route, bearer, len(test.body), test.body)
			var direct, through, directWork, work time.Duration
			for b.Loop() {
				begin := worked(b)
				direct += loadtest.Flood(b, services[test.service], benchBurst, request)
				between := worked(b)
				through += loadtest.Flood(b, door, benchBurst, request)
				directWork, work = directWork+between-begin, work+worked(b)-between
			}
			n := float64(b.N * benchBurst)
			b.ReportMetric(n/direct.Seconds(), "direct/s")
			b.ReportMetric(n/through.Seconds(), "gateway/s")
			b.ReportMetric(direct.Seconds()/through.Seconds(), "ratio")
			b.ReportMetric(directWork.Seconds()/work.Seconds(), "work-ratio")
			b.ReportMetric(0, "ns/op")
		})
	}
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

// benchMember registers somebody and returns their token.
func benchMember(b *testing.B, addr, handle string) string {
	b.Helper()
	benchAsk(b, addr, "POST", "/v1/users", "", object{"handle": handle, "email": handle + "@example.org", "password": password,
		"display_name": handle, "birth_date": "1990-01-31"}, nil)
	var s struct {
		AccessToken string `json:"access_token"`
	}
	benchAsk(b, addr, "POST", "/v1/sessions", "", object{"login": handle, "password": password}, &s)
	return s.AccessToken
}

func benchAsk(b *testing.B, addr, method, path, bearer string, body, into any) {
	b.Helper()
	sent, err := json.Marshal(body)
	if err != nil {
		b.Fatal(err)
	}
	if body == nil {
		sent = nil
	}
	r, err := http.NewRequestWithContext(b.Context(), method, "http://"+addr+path, bytes.NewReader(sent))
	if err != nil {
		b.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		b.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode >= 300 {
		b.Fatalf("%s %s: %s, %v: %s", method, path, res.Status, err, got)
	}
	if into != nil {
		if err := json.Unmarshal(got, into); err != nil {
			b.Fatal(err)
		}
	}
}

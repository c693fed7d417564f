package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/gateway"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// elsewhere serves a handler on loopback.
func elsewhere(t *testing.T, h http.Handler) *url.URL {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// seeded is a source of the same numbers in every run. It may be called by many.
func seeded() func() uint64 {
	var mu sync.Mutex
	r := rand.New(rand.NewPCG(1, 2))
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return r.Uint64()
	}
}

// nowhere is an address that refuses connections.
func nowhere(t *testing.T) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

// remoteHouse is a house whose gateway runs until the test ends.
func remoteHouse(t *testing.T, cfg gateway.Config, change func(*gateway.Deps)) *house {
	t.Helper()
	var g *gateway.Gateway
	h := newHouse(t, cfg, change, func(d *gateway.Deps) {
		var err error
		if g, err = gateway.New(cfg, *d); err != nil {
			t.Fatal(err)
		}
		d.Metrics = nil // the house's own gateway is not used
	})
	h.handler = g.Handler()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return h
}

func TestAServiceElsewhereGetsTheRequestAndTheClientsAddress(t *testing.T) {
	service := &upstream{name: "user"}
	var body string
	service.answer = func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		body = string(b)
		w.Header().Set("X-Request-Id", "of the service")
		w.Header().Set("ETag", `"7"`)
		w.WriteHeader(http.StatusCreated)
		_, _ = io.WriteString(w, "made")
	}
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
	})
	rec := h.do("POST", "/v1/users?a=b", `{"x":1}`, header("X-Forwarded-For", "203.0.113.1"), header("X-Forwarded-Host", "evil"),
		header("X-Request-Id", "trace-1"), header("Connection", "Upgrade"), header("Upgrade", "websocket"))
	if rec.Code != http.StatusCreated || rec.Body.String() != "made" || rec.Header().Get("ETag") != `"7"` {
		t.Errorf("got %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if ids := rec.Header().Values("X-Request-Id"); len(ids) != 1 || ids[0] != "trace-1" {
		t.Errorf("request IDs %v", ids)
	}
	got := service.requests()[0]
	if got.Method != "POST" || got.RequestURI != "/v1/users?a=b" || body != `{"x":1}` {
		t.Errorf("got %s %s %s", got.Method, got.RequestURI, body)
	}
	if v := got.Header.Values("X-Forwarded-For"); len(v) != 1 || v[0] != "192.0.2.7" {
		t.Errorf("X-Forwarded-For is %v", v)
	}
	for _, name := range []string{"X-Forwarded-Host", "Upgrade"} {
		if v := got.Header.Get(name); v != "" {
			t.Errorf("%s is %s", name, v)
		}
	}
	if got.Header.Get("X-Request-Id") != "trace-1" {
		t.Errorf("X-Request-Id is %s", got.Header.Get("X-Request-Id"))
	}
}

func TestAServiceThatCannotBeReachedIsAProblem(t *testing.T) {
	var logged bytes.Buffer
	dead := nowhere(t)
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{dead}, gateway.RemoteOptions{Logger: slog.New(slog.NewTextHandler(&logged, nil))})
		d.Upstreams.Fraud = gateway.Remote(nil, gateway.RemoteOptions{})
	})
	for target, changes := range map[string][]with{
		"GET /v1/me":               {header("Authorization", h.bearer(uuid.New()))},
		"POST /v1/sessions":        nil,
		"GET /v1/moderation/flags": {header("Authorization", h.bearer(uuid.New(), "moderator"))},
	} {
		method, path, _ := strings.Cut(target, " ")
		rec := h.do(method, path, "", changes...)
		h.wantProblem(rec, http.StatusServiceUnavailable)
		if rec.Header().Get("Retry-After") != "1" || strings.Contains(rec.Body.String(), dead.Host) {
			t.Errorf("%s: %v %s", target, rec.Header(), rec.Body)
		}
	}
	if !strings.Contains(logged.String(), dead.Host) {
		t.Error("the log does not say which instance")
	}
}

func TestAnInstanceThatRefusesConnectionsIsPassedOver(t *testing.T) {
	service := &upstream{name: "user", answer: func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }}
	urls := []*url.URL{nowhere(t), elsewhere(t, service), nowhere(t)}
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote(urls, gateway.RemoteOptions{Clock: d.Clock})
	})
	for n := range 10 {
		body := fmt.Sprintf(`{"n":%d}`, n)
		if rec := h.do("POST", "/v1/users", body); rec.Code != http.StatusOK || rec.Body.String() != body {
			t.Fatalf("request %d: %d %s", n, rec.Code, rec.Body)
		}
	}
	if n := len(service.requests()); n != 10 {
		t.Errorf("%d requests came", n)
	}
}

// What an instance may have got is not sent to another one.
func TestARequestIsNotRepeatedOnceItWasSent(t *testing.T) {
	cut := &upstream{answer: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }}
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, cut), elsewhere(t, cut)}, gateway.RemoteOptions{})
	})
	h.wantProblem(h.do("POST", "/v1/users", "{}"), http.StatusServiceUnavailable)
	if n := len(cut.requests()); n != 1 {
		t.Errorf("the request came %d times", n)
	}
}

func TestWritesOfAPartitionGoToOneInstanceAndReadsToAll(t *testing.T) {
	instances := []*upstream{{name: "a"}, {name: "b"}, {name: "c"}}
	var urls []*url.URL
	for _, i := range instances {
		urls = append(urls, elsewhere(t, i))
	}
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.Activity = gateway.Remote(urls, gateway.RemoteOptions{ByActor: true})
		d.Upstreams.User = gateway.Remote(urls, gateway.RemoteOptions{Random: seeded()})
	})
	ofPartition := make(map[int]string)
	used := make(map[string]bool)
	for range 60 {
		user := uuid.New()
		p := events.PartitionOf(user, events.ActivityPartitions)
		for _, path := range []string{"/v1/activities", "/v1/activities/batch"} {
			rec := h.do("POST", path, "{}", header("Authorization", h.bearer(user)))
			instance, _, _ := strings.Cut(rec.Body.String(), " ")
			if was, ok := ofPartition[p]; ok && was != instance {
				t.Fatalf("partition %d was at %s, now at %s", p, was, instance)
			}
			ofPartition[p] = instance
			used[instance] = true
		}
	}
	if len(used) < 2 {
		t.Errorf("all partitions are at %v", used)
	}
	reads := make(map[string]int)
	for range 90 {
		rec := h.do("GET", "/v1/me", "", header("Authorization", h.bearer(uuid.New())))
		instance, _, _ := strings.Cut(rec.Body.String(), " ")
		reads[instance]++
	}
	for _, i := range instances {
		if n := reads[i.name]; n < 28 || n > 32 {
			t.Errorf("of 90 reads one after the other, %v", reads)
		}
	}
}

func TestABodyOverTheLimitIsCutOnTheWayToAServiceElsewhere(t *testing.T) {
	service := &upstream{answer: func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}}
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
	})
	rec := h.do("POST", "/v1/users", strings.Repeat("x", 64<<10+1), func(r *http.Request) { r.ContentLength = -1 })
	h.wantProblem(rec, http.StatusRequestEntityTooLarge)
}

func TestAnExportIsStreamedAsItComes(t *testing.T) {
	next := make(chan string)
	service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		for line := range next {
			_, _ = io.WriteString(w, line)
			w.(http.Flusher).Flush()
		}
	})
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.Projections = gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
	})
	door := elsewhere(t, h.handler)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, door.JoinPath("/v1/logs/activity/events").String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", h.bearer(uuid.New(), "analyst"))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	go func() { next <- "1\n" }()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewReader(res.Body)
	// Each line is there before the next one is written.
	for n := 1; n <= 3; n++ {
		if line, err := lines.ReadString('\n'); err != nil || line != fmt.Sprintf("%d\n", n) {
			t.Fatalf("line %d: %q, %v", n, line, err)
		}
		if n < 3 {
			next <- fmt.Sprintf("%d\n", n+1)
		}
	}
	close(next)
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("the end: %q, %v", rest, err)
	}
}

// Half an export must not look like a whole one.
func TestAStreamThatBreaksOffIsCut(t *testing.T) {
	service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "1\n")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.Projections = gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
	})
	door := elsewhere(t, h.handler)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, door.JoinPath("/v1/logs/activity/events").String(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", h.bearer(uuid.New(), "analyst"))
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err == nil {
		defer res.Body.Close()
		_, err = io.ReadAll(res.Body)
	}
	if err == nil {
		t.Error("the stream ended as if it were whole")
	}
}

func TestListsAreDecoratedAlsoWhenTheServicesAreElsewhere(t *testing.T) {
	lists := answers(200, listOfTwo)
	names := answers(200, `{"items":[{"id":"`+annID+`","handle":"ann","display_name":"Ann"}]}`)
	dead := nowhere(t)
	for name, test := range map[string]struct {
		user    *url.URL
		handle  bool
		partial string
	}{"up": {elsewhere(t, names), true, ""}, "down": {dead, false, "user"}} {
		h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
			d.Upstreams.Projections = gateway.Remote([]*url.URL{elsewhere(t, lists)}, gateway.RemoteOptions{})
			d.Upstreams.User = gateway.Remote([]*url.URL{test.user}, gateway.RemoteOptions{})
		})
		rec := h.do("GET", "/v1/me/visitors", "", header("Authorization", h.bearer(uuid.New())))
		if rec.Code != 200 || strings.Contains(rec.Body.String(), `"handle":"ann"`) != test.handle || rec.Header().Get("Meet5-Partial") != test.partial {
			t.Errorf("%s: %d %v %s", name, rec.Code, rec.Header(), rec.Body)
		}
	}
}

// The loss of a service after the start must not take the door away from the
// others: a load balancer believes /readyz.
func TestAGatewayStaysReadyWhenAServiceIsLost(t *testing.T) {
	service := httptest.NewServer(answers(200, `{"status":"ready"}`))
	t.Cleanup(service.Close)
	u, err := url.Parse(service.URL)
	if err != nil {
		t.Fatal(err)
	}
	check, ok := gateway.Remote([]*url.URL{u}, gateway.RemoteOptions{}).(interface {
		Ready(context.Context) (any, error)
	})
	if !ok {
		t.Fatal("a service elsewhere has no check")
	}
	if detail, err := check.Ready(t.Context()); err != nil {
		t.Fatalf("while it is there: %v, %v", detail, err)
	}
	service.Close()
	detail, err := check.Ready(t.Context())
	if shown := fmt.Sprintf("%+v", detail); err != nil || shown != "{Instances:1 Ready:0 Ejected:0 Unreachable:0 Draining:0 Breaker:closed}" {
		t.Errorf("when it is gone: %s, %v", shown, err)
	}
}

func TestReadinessTellsOfEachServiceElsewhere(t *testing.T) {
	ready := answers(200, `{"status":"ready"}`)
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, ready), nowhere(t)}, gateway.RemoteOptions{})
		d.Upstreams.Fraud = gateway.Remote([]*url.URL{elsewhere(t, http.HandlerFunc(fails))}, gateway.RemoteOptions{})
	})
	rec := h.do("GET", "/readyz", "")
	want := `{"status":"unready","checks":{"fraud":{"status":"failed","detail":{"instances":1,"ready":0,"ejected":0,"unreachable":0,"draining":0,"breaker":"closed"}},"user":{"status":"ok","detail":{"instances":2,"ready":1,"ejected":0,"unreachable":0,"draining":0,"breaker":"closed"}}}}`
	if rec.Code != http.StatusServiceUnavailable || rec.Body.String() != want {
		t.Errorf("got %d %s", rec.Code, rec.Body)
	}
}

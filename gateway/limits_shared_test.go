package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/gateway"
)

// valkeyURL is a real server's.
func valkeyURL(t testing.TB) string {
	t.Helper()
	at := os.Getenv("VALKEY_URL")
	if at == "" {
		if os.Getenv("CI") != "" {
			t.Fatal("VALKEY_URL is not set; `make test` brings a server up")
		}
		t.Skip("VALKEY_URL is not set; `make test` brings a server up")
	}
	return at
}

// link is a way to a server that can be cut and blocked.
type link struct {
	net.Listener
	to string

	mu      sync.Mutex
	conns   []net.Conn
	blocked chan struct{} // while not nil nothing passes; closed when it does again
}

func newLink(t *testing.T, address, to string) *link {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	l := &link{Listener: listener, to: to}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				_ = c.Close()
				continue
			}
			l.mu.Lock()
			l.conns = append(l.conns, c, s)
			l.mu.Unlock()
			running.Go(func() { l.pass(s, c) })
			running.Go(func() { l.pass(c, s) })
		}
	})
	t.Cleanup(func() { l.cut(); running.Wait() })
	return l
}

func (l *link) pass(to, from net.Conn) {
	defer to.Close()
	buffer := make([]byte, 4096)
	for {
		n, err := from.Read(buffer)
		l.mu.Lock()
		blocked := l.blocked
		l.mu.Unlock()
		if blocked != nil {
			<-blocked
		}
		if err != nil {
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cut ends all connections and takes no more.
func (l *link) cut() {
	_ = l.Close()
	l.unblock()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
}

func (l *link) block() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.blocked = make(chan struct{})
}

func (l *link) unblock() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.blocked != nil {
		close(l.blocked)
		l.blocked = nil
	}
}

// sharing is a gateway that counts rates in a server.
type sharing struct {
	*house
	registry *prometheus.Registry
}

func share(t *testing.T, limitsURL string) *sharing {
	t.Helper()
	s := &sharing{registry: prometheus.NewRegistry()}
	s.house = newHouse(t, gateway.Config{RateLimits: true, LimitsURL: limitsURL}, func(d *gateway.Deps) { d.Metrics = s.registry })
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.gateway.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	return s
}

// figure is a metric's value, without regard to labels but one.
func (s *sharing) figure(name, label string) float64 {
	s.t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetGauge().GetValue() + m.GetCounter().GetValue()
			}
		}
	}
	s.t.Fatalf("there is no %s %s", name, label)
	return 0
}

// becomesTogether asks until the server counts.
func (s *sharing) becomesTogether() {
	s.t.Helper()
	for before := s.figure("meet5_rates_counted_total", "shared"); s.figure("meet5_rates_counted_total", "shared") == before; {
		s.clock.advance(time.Second) // the server is asked again
		s.do("GET", "/v1/me", "", header("Authorization", s.bearer(uuid.New())))
		if err := s.t.Context().Err(); err != nil {
			s.t.Fatal(err)
		}
	}
	if s.figure("meet5_rates_shared", "") != 1 {
		s.t.Error("it counts together, and does not say so")
	}
}

func (s *sharing) batch(user uuid.UUID) int {
	return s.do("POST", "/v1/activities/batch", "", header("Authorization", s.bearer(user))).Code
}

func TestGatewaysCountRatesTogether(t *testing.T) {
	at := valkeyURL(t)
	one, two := share(t, at), share(t, at)
	one.becomesTogether()
	two.becomesTogether()
	user, allowed := uuid.New(), 0
	begin := time.Now()
	for range 30 {
		for _, s := range []*sharing{one, two} {
			rec := s.do("POST", "/v1/activities/batch", "", header("Authorization", s.bearer(user)))
			switch rec.Code {
			case http.StatusOK:
				allowed++
			case http.StatusTooManyRequests:
				if rec.Header().Get("Retry-After") != "1" || rec.Header().Get("RateLimit-Remaining") != "0" ||
					!strings.HasPrefix(rec.Header().Get("RateLimit"), `"batch";r=0;t=`) {
					t.Errorf("refused with %v", rec.Header())
				}
			default:
				t.Fatalf("%d %s", rec.Code, rec.Body)
			}
			if allowed == 1 && (rec.Header().Get("RateLimit-Remaining") != "9" || rec.Header().Get("RateLimit-Policy") != `"batch";q=10;w=2`) {
				t.Errorf("the first: %v", rec.Header())
			}
		}
	}
	// 10 at once and 5 a second, of both gateways together.
	if most := 10 + int(5*time.Since(begin).Seconds()) + 1; allowed < 10 || allowed > most {
		t.Errorf("%d were allowed, want 10 to %d", allowed, most)
	}
	if code := two.batch(uuid.New()); code != http.StatusOK {
		t.Errorf("another user: %d", code)
	}
	if one.figure("meet5_rates_buckets", "") > 0 && one.figure("meet5_rates_counted_total", "local") == 0 {
		t.Error("what was counted together was counted alone, too")
	}
}

func TestAGatewayCountsAloneWhileTheServerIsAway(t *testing.T) {
	u, err := url.Parse(valkeyURL(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, fault := range map[string]struct{ begin, end func(*link) *link }{
		"it is gone": {
			func(l *link) *link { l.cut(); return l },
			func(l *link) *link { return newLink(t, l.Addr().String(), l.to) },
		},
		"it hangs": {
			func(l *link) *link { l.block(); return l },
			func(l *link) *link { l.unblock(); return l },
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLink(t, "127.0.0.1:0", u.Host)
			s := share(t, "redis://"+l.Addr().String())
			s.becomesTogether()
			l = fault.begin(l)
			user := uuid.New()
			for n := range 10 {
				if code := s.batch(user); code != http.StatusOK {
					t.Fatalf("request %d: %d", n, code)
				}
			}
			if code := s.batch(user); code != http.StatusTooManyRequests {
				t.Errorf("beyond the rate: %d", code)
			}
			if s.figure("meet5_rates_shared", "") != 0 || s.figure("meet5_rates_counted_total", "local") < 11 {
				t.Error("it does not say that it counts alone")
			}
			fault.end(l)
			s.becomesTogether()
		})
	}
}

func TestAGatewayStartsWithoutTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	s := share(t, "redis://"+address)
	if code := s.batch(uuid.New()); code != http.StatusOK {
		t.Errorf("without the server: %d", code)
	}
	if u, err := url.Parse(valkeyURL(t)); err != nil {
		t.Error(err)
	} else {
		newLink(t, address, u.Host)
		s.becomesTogether()
	}
}

func BenchmarkACountOfRates(b *testing.B) {
	for _, way := range []string{"alone", "together"} {
		b.Run(way, func(b *testing.B) {
			cfg := gateway.Config{RateLimits: true}
			if way == "together" {
				cfg.LimitsURL = valkeyURL(b)
			}
			h := newHouse(b, cfg)
			ctx, cancel := context.WithCancel(context.Background())
			var running sync.WaitGroup
			running.Go(func() { _ = h.gateway.Run(ctx) })
			defer running.Wait()
			defer cancel()
			h.user.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "x") }
			h.clock.advance(time.Second)
			b.RunParallel(func(p *testing.PB) {
				bearer := header("Authorization", h.bearer(uuid.New()))
				for p.Next() {
					h.do("GET", "/v1/me", "", bearer)
				}
			})
		})
	}
}

package gateway_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
)

// resets cuts its connection before it answers.
func resets(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// pair is a service of two instances, of which the first one asked has this
// sickness for its first request, and both are well afterwards.
func pair(t *testing.T, sick http.HandlerFunc, o gateway.RemoteOptions) (up gateway.Upstream, got *atomic.Int64) {
	got = &atomic.Int64{}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if got.Add(1) == 1 {
			sick(w, r)
			return
		}
		_, _ = io.WriteString(w, "well")
	})
	return gateway.Remote([]*url.URL{elsewhere(t, h), elsewhere(t, h)}, o), got
}

// What may be carried out twice without harm is sent again, and nothing else.
func TestOnlyWhatDoesNoHarmTwiceIsSentAgain(t *testing.T) {
	says503 := func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "of the service")
	}
	says500 := func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }
	for name, test := range map[string]struct {
		route, body string
		sick        http.HandlerFunc
		again       bool
		status      int
	}{
		"a read that is cut":                  {"GET /v1/me", "", resets, true, 200},
		"a read that is refused for now":      {"GET /v1/me", "", says503, true, 200},
		"a read that fails":                   {"GET /v1/me", "", says500, false, 500},
		"an activity with an id, cut":         {"POST /v1/activities", `{"type":"like","id":"` + someID + `"}`, resets, true, 200},
		"an activity with an id, refused":     {"POST /v1/activities", `{"id":"` + someID + `"}`, says503, true, 200},
		"an activity without an id":           {"POST /v1/activities", `{"type":"like"}`, resets, false, 503},
		"an activity with an empty id":        {"POST /v1/activities", `{"id":""}`, resets, false, 503},
		"an activity with the id elsewhere":   {"POST /v1/activities", `{"target":{"id":"x"},"note":"\"id\":\"x\""}`, resets, false, 503},
		"an activity whose id is a number":    {"POST /v1/activities", `{"id":7}`, resets, false, 503},
		"an activity that is no JSON":         {"POST /v1/activities", `{"id":"x"`, resets, false, 503},
		"a batch":                             {"POST /v1/activities/batch", `{"id":"` + someID + `"}`, resets, false, 503},
		"a sign-in":                           {"POST /v1/sessions", `{"id":"x"}`, resets, false, 503},
		"a refresh, whose token works once":   {"POST /v1/sessions/refresh", `{"id":"x"}`, resets, false, 503},
		"an account":                          {"POST /v1/users", `{"id":"x"}`, resets, false, 503},
		"an account, refused for now":         {"POST /v1/users", `{"id":"x"}`, says503, false, 503},
		"a change of one's account":           {"PATCH /v1/me", `{"id":"x"}`, resets, false, 503},
		"the end of one's account":            {"DELETE /v1/me", "", resets, false, 503},
		"the end of a session":                {"DELETE /v1/sessions/current", "", resets, false, 503},
		"roles":                               {"POST /v1/admin/users/" + someID + "/roles", `{"id":"x"}`, resets, false, 503},
		"a read of one's own that is cut":     {"GET /v1/users/" + someID, "", resets, true, 200},
		"a read of public keys that is cut":   {"GET /.well-known/jwks.json", "", resets, true, 200},
		"a read that is refused as a gateway": {"GET /v1/me", "", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502) }, true, 200},
	} {
		t.Run(name, func(t *testing.T) {
			up, got := pair(t, test.sick, gateway.RemoteOptions{})
			h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User, d.Upstreams.Activity = up, up })
			method, path, _ := strings.Cut(test.route, " ")
			rec := h.do(method, path, test.body, header("Authorization", h.bearer(uuid.New(), "admin")))
			want := int64(1)
			if test.again {
				want = 2
			}
			if rec.Code != test.status || got.Load() != want {
				t.Errorf("got %d after %d requests, want %d after %d: %s", rec.Code, got.Load(), test.status, want, rec.Body)
			}
		})
	}
}

// What every instance says is passed on as they say it.
func TestAnAnswerThatNoRetryBettersIsPassedOn(t *testing.T) {
	service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"detail":"of the service"}`)
	})
	up := gateway.Remote([]*url.URL{elsewhere(t, service), elsewhere(t, service)}, gateway.RemoteOptions{})
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = up })
	rec := h.do("GET", "/v1/me", "", header("Authorization", h.bearer(uuid.New())))
	if rec.Code != 503 || rec.Header().Get("Retry-After") != "7" || !strings.Contains(rec.Body.String(), "of the service") {
		t.Errorf("got %d %v %s", rec.Code, rec.Header(), rec.Body)
	}
	if sent, _ := gateway.Retries(up); sent != 2 {
		t.Errorf("%d retries were sent", sent)
	}
}

func TestRetriesStayWithinTheirBudget(t *testing.T) {
	var got atomic.Int64
	service := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		got.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	var up gateway.Upstream
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { // whose clock stands still
		up = gateway.Remote([]*url.URL{elsewhere(t, service), elsewhere(t, service)}, gateway.RemoteOptions{Clock: d.Clock})
		d.Upstreams.User = up
	})
	bearer := header("Authorization", h.bearer(uuid.New()))
	const requests = 200
	for range requests {
		if rec := h.do("GET", "/v1/me", "", bearer); rec.Code != http.StatusServiceUnavailable {
			t.Fatalf("got %d", rec.Code)
		}
	}
	sent, denied := gateway.Retries(up)
	if most := uint64(50 + requests/10); sent > most || sent < most-1 || denied == 0 {
		t.Errorf("%d retries were sent and %d denied, of at most %d", sent, denied, most)
	}
	if n := got.Load(); n != int64(requests+sent) {
		t.Errorf("%d requests came of %d and %d retries", n, requests, sent)
	}
	h.clock.advance(2 * time.Second)
	h.do("GET", "/v1/me", "", bearer)
	if now, _ := gateway.Retries(up); now != sent+2 {
		t.Errorf("two seconds later %d retries of one request were sent", now-sent)
	}
}

// A hanging instance costs a reader half of their time, and no error.
func TestAReadDoesNotWaitForAnInstanceThatHangs(t *testing.T) {
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	up, got := pair(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, gateway.RemoteOptions{})
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = up })
	rec := h.do("GET", "/v1/me", "", header("Authorization", h.bearer(uuid.New())))
	if rec.Code != http.StatusOK || rec.Body.String() != "well" || got.Load() != 2 {
		t.Errorf("got %d %s after %d requests", rec.Code, rec.Body, got.Load())
	}
}

func TestServicesAreToldHowMuchTimeThereIs(t *testing.T) {
	service := &upstream{name: "user"}
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
		d.Upstreams.Projections = gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
	})
	bearer := header("Authorization", h.bearer(uuid.New(), "analyst"))
	for route, most := range map[string]int{"GET /v1/me": 4_000, "PATCH /v1/me": 10_000, "POST /v1/sessions": 8_000} {
		method, path, _ := strings.Cut(route, " ")
		h.do(method, path, "", bearer, header("X-Request-Timeout", "999999"))
		all := service.requests()
		said := all[len(all)-1].Header.Values("X-Request-Timeout")
		if len(said) != 1 {
			t.Fatalf("%s: %v", route, said)
		}
		if ms, err := strconv.Atoi(said[0]); err != nil || ms > most || ms < 1 {
			t.Errorf("%s: %v, want at most %d", route, said, most)
		}
	}
	h.do("GET", "/v1/logs/activity/events", "", bearer, header("X-Request-Timeout", "1"))
	all := service.requests()
	if said := all[len(all)-1].Header.Values("X-Request-Timeout"); len(said) != 0 {
		t.Errorf("a stream has %v", said)
	}
}

// In this process, too, only the gateway could say so.
func TestAClientCannotSayHowMuchTimeThereIs(t *testing.T) {
	h := newHouse(t, gateway.Config{})
	h.do("POST", "/v1/sessions", "{}", header("X-Request-Timeout", "1"))
	if said := h.user.requests()[0].Header.Get("X-Request-Timeout"); said != "" {
		t.Errorf("it says %s", said)
	}
}

func TestTheBreakerSparesAServiceThatDoesNotAnswerAndClosesWhenItDoes(t *testing.T) {
	var got atomic.Int64
	var sick atomic.Bool
	sick.Store(true)
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.Add(1)
		if sick.Load() {
			resets(w, r)
		}
	})
	for name, pause := range map[string]time.Duration{"open": time.Hour, "back": time.Millisecond} {
		got.Store(0)
		sick.Store(true)
		up := gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
		gateway.BreakFor(up, pause)
		h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = up })
		post := func() *httptest.ResponseRecorder { return h.do("POST", "/v1/sessions", "{}") }
		for range 20 {
			h.wantProblem(post(), http.StatusServiceUnavailable)
		}
		if name == "open" {
			was := got.Load()
			rec := post()
			h.wantProblem(rec, http.StatusServiceUnavailable)
			if wait, err := strconv.Atoi(rec.Header().Get("Retry-After")); err != nil || wait < 2000 {
				t.Errorf("Retry-After is %s", rec.Header().Get("Retry-After"))
			}
			if n := got.Load() - was; n != 0 {
				t.Errorf("%d requests came past an open breaker", n)
			}
			if _, _, _, _, state := gateway.Standing(up); state != "open" {
				t.Errorf("the breaker is %s", state)
			}
			continue
		}
		sick.Store(false)
		eventually(t, "the breaker is closed", func() bool {
			post()
			_, _, _, _, state := gateway.Standing(up)
			return state == "closed"
		})
		if rec := post(); rec.Code != http.StatusOK {
			t.Errorf("afterwards: %d", rec.Code)
		}
	}
}

// Errors that a client can cause must not take a service away from the others.
func TestWhatClientsCauseDoesNotOpenTheBreaker(t *testing.T) {
	entered := make(chan struct{})
	service := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The server notices that a client has left only once the body is read.
		_, _ = io.Copy(io.Discard, r.Body)
		switch {
		case r.URL.Query().Has("leave"):
			entered <- struct{}{}
			<-r.Context().Done()
		case r.URL.Query().Has("busy"):
			w.WriteHeader(http.StatusServiceUnavailable)
		case r.URL.Query().Has("break"):
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	up := gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = up })
	for range 30 {
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.do("POST", "/v1/sessions?leave", "{}", func(r *http.Request) { *r = *r.WithContext(ctx) })
		}()
		select {
		case <-entered:
		case <-done:
			t.Fatal("the service was not asked")
		}
		leave()
		<-done
	}
	if _, _, _, _, state := gateway.Standing(up); state != "closed" {
		t.Errorf("after clients have left the breaker is %s", state)
	}
	for range 30 {
		h.do("POST", "/v1/sessions?busy", "{}")
		h.do("POST", "/v1/sessions?break", "{}")
	}
	if rec := h.do("POST", "/v1/sessions", "{}"); rec.Code != http.StatusOK {
		t.Errorf("somebody else: %d %s", rec.Code, rec.Body)
	}
	if _, _, _, _, state := gateway.Standing(up); state != "closed" {
		t.Errorf("the breaker is %s", state)
	}
}

func TestABodyThatBreaksOffIsTheClientsFault(t *testing.T) {
	service := &upstream{name: "user"}
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, service)}, gateway.RemoteOptions{})
	})
	rec := h.do("POST", "/v1/sessions", "{", func(r *http.Request) {
		r.Body = io.NopCloser(io.MultiReader(strings.NewReader("{"), broken{}))
		r.ContentLength = 100
	})
	h.wantProblem(rec, http.StatusBadRequest)
	if n := len(service.requests()); n != 0 {
		t.Errorf("%d requests came of half a body", n)
	}
}

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// holding is a service whose requests last until it lets them go.
type holding struct {
	in      chan struct{}
	release chan struct{}
}

func newHolding(t *testing.T) *holding {
	s := &holding{in: make(chan struct{}, 1000), release: make(chan struct{})}
	t.Cleanup(s.letGo)
	return s
}

func (s *holding) letGo() {
	select {
	case <-s.release:
	default:
		close(s.release)
	}
}

func (s *holding) ServeHTTP(_ http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	s.in <- struct{}{}
	select {
	case <-s.release:
	case <-r.Context().Done():
	}
}

func TestAServiceHasRoomForSoManyAndTheRestIsToldToComeBack(t *testing.T) {
	sick := newHolding(t)
	up := gateway.Remote([]*url.URL{elsewhere(t, sick)}, gateway.RemoteOptions{})
	gateway.RoomFor(up, 4)
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = up })
	var held sync.WaitGroup
	for range 4 {
		held.Go(func() { h.do("POST", "/v1/sessions", "{}") })
		<-sick.in
	}
	rec := h.do("POST", "/v1/sessions", "{}")
	h.wantProblem(rec, http.StatusServiceUnavailable)
	if rec.Header().Get("Retry-After") == "" {
		t.Error("there is no Retry-After")
	}
	sick.letGo()
	held.Wait()
	if rec := h.do("POST", "/v1/sessions", "{}"); rec.Code != http.StatusOK {
		t.Errorf("afterwards: %d", rec.Code)
	}
}

// What is less urgent is refused first, and nothing that says how the process is, be
// the services elsewhere or in this process.
func TestTheLessUrgentIsRefusedFirst(t *testing.T) {
	t.Run("elsewhere", func(t *testing.T) {
		theLessUrgentIsRefusedFirst(t, func(h http.Handler) http.Handler {
			return gateway.Remote([]*url.URL{elsewhere(t, h)}, gateway.RemoteOptions{})
		})
	})
	t.Run("in process", func(t *testing.T) {
		theLessUrgentIsRefusedFirst(t, func(h http.Handler) http.Handler { return h })
	})
}

func theLessUrgentIsRefusedFirst(t *testing.T, where func(http.Handler) http.Handler) {
	slow := newMember("slow")
	h := remoteHouse(t, gateway.Config{MaxInFlight: 16}, func(d *gateway.Deps) {
		for _, up := range []*http.Handler{&d.Upstreams.User, &d.Upstreams.Activity, &d.Upstreams.Fraud, &d.Upstreams.Projections} {
			*up = where(slow)
		}
	})
	bearer := header("Authorization", h.bearer(uuid.New(), "moderator"))
	classes := map[string][]string{
		"low":    {"POST /v1/activities/batch", "GET /v1/moderation/flags"},
		"normal": {"GET /v1/me", "POST /v1/activities", "PATCH /v1/me"},
		"high":   {"POST /v1/sessions", "POST /v1/sessions/refresh"},
		"always": {"GET /livez", "GET /readyz"},
	}
	check := func(when string, refused ...string) {
		t.Helper()
		for class, routes := range classes {
			for _, route := range routes {
				method, path, _ := strings.Cut(route, " ")
				rec := h.do(method, path, "", bearer)
				want := http.StatusOK
				for _, c := range refused {
					if c == class {
						want = http.StatusServiceUnavailable
					}
				}
				if rec.Code != want || want == http.StatusServiceUnavailable && rec.Header().Get("Retry-After") == "" {
					t.Errorf("%s, %s: got %d, want %d: %s", when, route, rec.Code, want, rec.Body)
				}
			}
		}
	}
	var held sync.WaitGroup
	take := func(n int) {
		for range n {
			held.Go(func() { h.do("PATCH", "/v1/me?wait", "{}", bearer) })
			<-slow.in
		}
	}
	take(7)
	check("below half")
	take(1)
	check("at half", "low")
	take(6)
	check("at seven eighths", "low", "normal")
	for range 2 { // sign-in has the rest to itself
		held.Go(func() { h.do("POST", "/v1/users?wait", "{}") })
		<-slow.in
	}
	check("when it is full", "low", "normal", "high")
	close(slow.wait)
	held.Wait()
	check("afterwards")
}

// One sick service, in every way that services are: the others are as well as
// ever, under load of both.
func TestOneSickServiceNeverTakesTheOthersDown(t *testing.T) {
	sicknesses := map[string]func(t *testing.T) *url.URL{
		"hangs":   func(t *testing.T) *url.URL { return elsewhere(t, newHolding(t)) },
		"fails":   func(t *testing.T) *url.URL { return elsewhere(t, http.HandlerFunc(fails)) },
		"cuts":    func(t *testing.T) *url.URL { return elsewhere(t, http.HandlerFunc(resets)) },
		"is gone": nowhere,
		"cuts its answers": func(t *testing.T) *url.URL {
			return elsewhere(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "1000")
				_, _ = io.WriteString(w, "half of it")
				panic(http.ErrAbortHandler)
			}))
		},
		"drips": func(t *testing.T) *url.URL {
			s := newHolding(t)
			return elsewhere(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, "{")
				w.(http.Flusher).Flush()
				s.ServeHTTP(w, r)
			}))
		},
		"talks nonsense": func(t *testing.T) *url.URL {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			var conns sync.WaitGroup
			t.Cleanup(conns.Wait)
			t.Cleanup(func() { l.Close() })
			conns.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					_, _ = io.WriteString(c, "220 mail.example.org ESMTP\r\n")
					c.Close()
				}
			})
			return &url.URL{Scheme: "http", Host: l.Addr().String()}
		},
	}
	for name, sickness := range sicknesses {
		t.Run(name, func(t *testing.T) {
			well := newMember("well")
			fraud := gateway.Remote([]*url.URL{sickness(t)}, gateway.RemoteOptions{})
			gateway.RoomFor(fraud, 32)
			h := remoteHouse(t, gateway.Config{MaxInFlight: 128}, func(d *gateway.Deps) {
				d.Upstreams.Fraud = fraud
				d.Upstreams.User = gateway.Remote([]*url.URL{elsewhere(t, well)}, gateway.RemoteOptions{})
				d.Upstreams.Activity = gateway.Remote([]*url.URL{elsewhere(t, well)}, gateway.RemoteOptions{})
				d.Upstreams.Projections = gateway.Remote([]*url.URL{elsewhere(t, well)}, gateway.RemoteOptions{})
			})
			bearer := header("Authorization", h.bearer(uuid.New(), "moderator"))
			ctx, leave := context.WithCancel(t.Context())
			var sick, others sync.WaitGroup
			for range 100 {
				sick.Go(func() {
					for range 3 {
						if ctx.Err() != nil {
							return
						}
						h.try("GET", "/v1/moderation/flags", "", bearer, func(r *http.Request) { *r = *r.WithContext(ctx) })
					}
				})
			}
			for _, route := range []string{"GET /v1/me", "POST /v1/sessions", "POST /v1/activities", "GET /v1/me/stats"} {
				others.Go(func() {
					method, path, _ := strings.Cut(route, " ")
					for range 50 {
						if rec := h.do(method, path, "", bearer); rec.Code != http.StatusOK || rec.Body.String() != "well" {
							t.Errorf("%s while another service %s: %d %s", route, name, rec.Code, rec.Body)
							return
						}
					}
				})
			}
			others.Wait()
			leave()
			sick.Wait()
		})
	}
}

// An instance that dies without a word costs a reader nothing, nor one who likes
// with an id of their own.
func TestNobodyWhoMayAskAgainNoticesThatAnInstanceDies(t *testing.T) {
	var urls []*url.URL
	var servers []*httptest.Server
	for _, name := range []string{"a", "b", "c"} {
		server, _ := at(t, "127.0.0.1:0", newMember(name))
		servers = append(servers, server)
		urls = append(urls, &url.URL{Scheme: "http", Host: server.Listener.Addr().String()})
	}
	user := gateway.Remote(urls, gateway.RemoteOptions{})
	activity := gateway.Remote(urls, gateway.RemoteOptions{ByActor: true})
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User, d.Upstreams.Activity = user, activity })
	var answered atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			bearer := header("Authorization", h.bearer(uuid.New()))
			for {
				select {
				case <-stop:
					return
				default:
				}
				rec := h.do("GET", "/v1/me", "", bearer)
				if n%2 == 0 {
					rec = h.do("POST", "/v1/activities", `{"id":"`+uuid.NewString()+`"}`, bearer)
				}
				if rec.Code != http.StatusOK {
					t.Errorf("a client noticed: %d %s", rec.Code, rec.Body)
					return
				}
				answered.Add(1)
			}
		})
	}
	// Within the budgets: each client has one request under way when one dies.
	for died := range 2 {
		was := answered.Load()
		eventually(t, "all is well", func() bool { return answered.Load() > was+100 || t.Failed() })
		servers[died].Listener.Close()
		servers[died].CloseClientConnections()
	}
	was := answered.Load()
	eventually(t, "the last one serves all", func() bool { return answered.Load() > was+100 || t.Failed() })
	close(stop)
	clients.Wait()
}

// try is do for what may cut its connection.
func (h *house) try(method, target, body string, changes ...with) {
	defer func() {
		switch v := recover(); v {
		case nil, http.ErrAbortHandler:
		default:
			panic(v)
		}
	}()
	h.do(method, target, body, changes...)
}

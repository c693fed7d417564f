package gateway_test

import (
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/miekg/dns"

	"github.com/meet5/backend/gateway"
)

// nameServer is a DNS server on loopback that says what it is told to.
type nameServer struct {
	addr string

	mu      sync.Mutex
	records map[string][]string // by name and type, as in "user.test. A"
	code    int
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameServer{addr: conn.LocalAddr().String(), records: make(map[string][]string)}
	server := &dns.Server{PacketConn: conn, Handler: n}
	done := make(chan error, 1)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return n
}

func (n *nameServer) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := new(dns.Msg)
	m.SetRcode(q, n.code)
	name := strings.ToLower(q.Question[0].Name)
	known := false
	for key, records := range n.records {
		of, kind, _ := strings.Cut(key, " ")
		known = known || of == name
		if of != name || kind != dns.TypeToString[q.Question[0].Qtype] || n.code != dns.RcodeSuccess {
			continue
		}
		for _, r := range records {
			rr, err := dns.NewRR(name + " 1 IN " + kind + " " + r)
			if err != nil {
				panic(err)
			}
			m.Answer = append(m.Answer, rr)
		}
	}
	if !known && n.code == dns.RcodeSuccess {
		m.Rcode = dns.RcodeNameError
	}
	_ = w.WriteMsg(m)
}

// says sets the records of a name and type.
func (n *nameServer) says(name string, records ...string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(records) == 0 {
		delete(n.records, name)
		return
	}
	n.records[name] = records
}

// answers sets the code of all answers.
func (n *nameServer) answers(code int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.code = code
}

// at serves a handler at an address of loopback.
func at(t *testing.T, addr string, h http.Handler) (server *httptest.Server, port string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	server = httptest.NewUnstartedServer(h)
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return server, port
}

// eventually waits until something is so.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for !is() {
		select {
		case <-tick.C:
		case <-limit.C:
			t.Fatalf("after a minute, still not: %s", what)
		}
	}
}

// upstreams parses and makes one.
func upstreams(t *testing.T, o gateway.RemoteOptions, texts ...string) gateway.Upstream {
	t.Helper()
	var urls []*url.URL
	for _, text := range texts {
		u, err := gateway.ParseUpstream(text)
		if err != nil {
			t.Fatal(err)
		}
		urls = append(urls, u)
	}
	return gateway.Remote(urls, o)
}

// member is an instance that says its name and counts its requests.
type member struct {
	name string
	got  atomic.Int64
	wait chan struct{} // requests with ?wait last until it is closed
	in   chan struct{} // one for each of those that has come

	fail   atomic.Int64 // answer with this status
	every  atomic.Int64 // fail every so many'th
	failed atomic.Int64 // how often it did
}

func newMember(name string) *member {
	return &member{name: name, wait: make(chan struct{}), in: make(chan struct{}, 100)}
}

func (m *member) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.got.Add(1)
	_, _ = io.Copy(io.Discard, r.Body)
	if r.URL.RawQuery == "wait" {
		m.in <- struct{}{}
		<-m.wait
	}
	status := int(m.fail.Load())
	if n := m.every.Load(); n > 0 && m.got.Load()%n == 0 {
		status = http.StatusInternalServerError
	}
	if status != 0 {
		m.failed.Add(1)
		w.WriteHeader(status)
	}
	_, _ = io.WriteString(w, m.name)
}

// An instance that leaves finishes what it has; no client notices. One that comes
// is used.
func TestInstancesThatDNSNamesAreFollowed(t *testing.T) {
	names := newNameServer(t)
	a, b, c, fixed := newMember("a"), newMember("b"), newMember("c"), newMember("fixed")
	first, port := at(t, "127.0.0.2:0", a)
	at(t, "127.0.0.3:"+port, b)
	at(t, "127.0.0.4:"+port, c)
	names.says("user.test. A", "127.0.0.2", "127.0.0.3")
	user := upstreams(t, gateway.RemoteOptions{Resolver: gateway.ResolverAt(names.addr)},
		"dns+http://user.test:"+port, elsewhere(t, fixed).String())
	gateway.LookUpEvery(user, 10*time.Millisecond)
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = user })
	bearer := header("Authorization", h.bearer(uuid.New()))

	// Traffic that must not notice anything, until the test ends.
	stop := make(chan struct{})
	var traffic sync.WaitGroup
	for range 3 {
		traffic.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if rec := h.do("GET", "/v1/me", "", bearer); rec.Code != http.StatusOK {
					t.Errorf("a client noticed: %d %s", rec.Code, rec.Body)
					return
				}
			}
		})
	}
	defer traffic.Wait()
	defer close(stop)

	eventually(t, "both addresses and the fixed instance are used", func() bool {
		return a.got.Load() > 0 && b.got.Load() > 0 && fixed.got.Load() > 0
	})
	if n := c.got.Load(); n > 0 {
		t.Errorf("%d requests came to an instance that DNS does not name", n)
	}

	// Requests are under way at a when it leaves.
	held := make(chan *httptest.ResponseRecorder, 12)
	for range 12 {
		go func() { held <- h.do("PATCH", "/v1/me?wait", "{}", bearer) }()
	}
	<-a.in
	names.says("user.test. A", "127.0.0.3", "127.0.0.4")
	eventually(t, "the new instance is used, and the old one drains", func() bool {
		instances, _, _, draining, _ := gateway.Standing(user)
		return c.got.Load() > 0 && instances == 3 && draining == 1
	})
	for _, m := range []*member{b, c, fixed} {
		close(m.wait)
	}
	// What was on its way to it may still come.
	others := func() int64 { return b.got.Load() + c.got.Load() + fixed.got.Load() }
	was, seen := a.got.Load(), others()
	eventually(t, "of a hundred requests none comes to the instance that has left", func() bool {
		if now := a.got.Load(); now != was {
			was, seen = now, others()
		}
		return others() > seen+100
	})
	close(a.wait)
	for range 12 {
		if rec := <-held; rec.Code != http.StatusOK {
			t.Errorf("a request under way: %d %s", rec.Code, rec.Body)
		}
	}
	eventually(t, "nothing drains", func() bool {
		_, _, _, draining, _ := gateway.Standing(user)
		return draining == 0
	})
	first.Close() // what it would do next
	seen = b.got.Load()
	eventually(t, "more are answered", func() bool { return b.got.Load() > seen+30 })
}

func TestInstancesAreFoundByTheirServiceRecords(t *testing.T) {
	names := newNameServer(t)
	a, b, spare := newMember("a"), newMember("b"), newMember("spare")
	_, portA := at(t, "127.0.0.1:0", a)
	_, portB := at(t, "127.0.0.2:0", b)
	_, portSpare := at(t, "127.0.0.1:0", spare)
	names.says("one.test. A", "127.0.0.1")
	names.says("two.test. A", "127.0.0.2")
	names.says("_http._tcp.user.test. SRV", "20 0 "+portSpare+" one.test.", "10 5 "+portA+" one.test.", "10 1 "+portB+" two.test.")
	user := upstreams(t, gateway.RemoteOptions{Resolver: gateway.ResolverAt(names.addr)}, "srv+http://_http._tcp.user.test")
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = user })
	for range 20 {
		if rec := h.do("GET", "/v1/me", "", header("Authorization", h.bearer(uuid.New()))); rec.Code != http.StatusOK {
			t.Fatalf("got %d %s", rec.Code, rec.Body)
		}
	}
	if a.got.Load() < 8 || b.got.Load() < 8 || spare.got.Load() > 0 {
		t.Errorf("of 20 requests %d and %d came, and %d to the spare", a.got.Load(), b.got.Load(), spare.got.Load())
	}
}

// certified is a certificate for a name, and who to trust for it.
func certified(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(parsed)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private}, roots
}

// An instance that DNS names must have the certificate of the name, not of its
// address; and of that name, not of another.
func TestInstancesBehindTLSMustBeWhoTheyAreCalled(t *testing.T) {
	names := newNameServer(t)
	names.says("user.test. A", "127.0.0.1")
	names.says("other.test. A", "127.0.0.1")
	certificate, roots := certified(t, "user.test")
	server := httptest.NewUnstartedServer(newMember("a"))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	names.says("_https._tcp.user.test. SRV", "1 1 "+port+" user.test.")
	names.says("_https._tcp.other.test. SRV", "1 1 "+port+" other.test.")
	for text, want := range map[string]int{
		"dns+https://user.test:" + port: 200, "srv+https://_https._tcp.user.test": 200,
		"dns+https://other.test:" + port: 503, "srv+https://_https._tcp.other.test": 503,
		"https://127.0.0.1:" + port: 503,
	} {
		user := upstreams(t, gateway.RemoteOptions{Resolver: gateway.ResolverAt(names.addr), RootCAs: roots}, text)
		h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = user })
		if rec := h.do("PATCH", "/v1/me", "{}", header("Authorization", h.bearer(uuid.New()))); rec.Code != want {
			t.Errorf("%s: got %d, want %d: %s", text, rec.Code, want, rec.Body)
		}
	}
}

// An outage of DNS is none of ours; that DNS says there is nothing is believed
// sooner, since addresses are given to others.
func TestTheLastGoodAnswerOfDNSIsKeptForATime(t *testing.T) {
	for name, test := range map[string]struct {
		code int
		keep time.Duration
	}{"no answer": {dns.RcodeServerFailure, time.Hour}, "no such name": {dns.RcodeNameError, 30 * time.Second}} {
		t.Run(name, func(t *testing.T) {
			names := newNameServer(t)
			_, port := at(t, "127.0.0.1:0", newMember("a"))
			names.says("user.test. A", "127.0.0.1")
			at := &clock{at: time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)}
			user := upstreams(t, gateway.RemoteOptions{Resolver: gateway.ResolverAt(names.addr), Clock: at.now}, "dns+http://user.test:"+port)
			gateway.LookUpEvery(user, time.Millisecond)
			h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = user })
			get := func() int {
				return h.do("GET", "/v1/me", "", header("Authorization", h.bearer(uuid.New()))).Code
			}
			if code := get(); code != http.StatusOK {
				t.Fatalf("at first: %d", code)
			}
			names.answers(test.code)
			lookedUp := func() {
				t.Helper()
				was := gateway.FailedLookups(user)
				eventually(t, "DNS has failed since", func() bool { return gateway.FailedLookups(user) > was+1 })
			}
			lookedUp()
			at.advance(test.keep - time.Second)
			lookedUp()
			if code := get(); code != http.StatusOK {
				t.Errorf("just within %v: %d", test.keep, code)
			}
			at.advance(2 * time.Second)
			lookedUp()
			if code := get(); code != http.StatusServiceUnavailable {
				t.Errorf("after %v: %d", test.keep, code)
			}
			names.answers(dns.RcodeSuccess)
			eventually(t, "it is back", func() bool { return get() == http.StatusOK })
		})
	}
}

// Who moves is found before the next lookup is due.
func TestAnInstanceThatRefusesConnectionsIsLookedUpAgain(t *testing.T) {
	names := newNameServer(t)
	old, port := at(t, "127.0.0.2:0", newMember("old"))
	at(t, "127.0.0.3:"+port, newMember("new"))
	names.says("user.test. A", "127.0.0.2")
	user := upstreams(t, gateway.RemoteOptions{Resolver: gateway.ResolverAt(names.addr)}, "dns+http://user.test:"+port)
	gateway.LookUpEvery(user, 24*time.Hour)
	h := remoteHouse(t, gateway.Config{}, func(d *gateway.Deps) { d.Upstreams.User = user })
	get := func() string {
		return h.do("GET", "/v1/me", "", header("Authorization", h.bearer(uuid.New()))).Body.String()
	}
	if got := get(); got != "old" {
		t.Fatalf("at first: %s", got)
	}
	names.says("user.test. A", "127.0.0.3")
	old.CloseClientConnections()
	old.Close()
	eventually(t, "the new one is found", func() bool { return get() == "new" })
}

func TestUpstreamsAreReadOrRefusedWithTheWayOut(t *testing.T) {
	for _, good := range []string{"http://user:8080", "https://user", "dns+http://user:80", " dns+https://user:443/ ", "srv+http://_http._tcp.user.svc", "http://[::1]:8080"} {
		if _, err := gateway.ParseUpstream(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"user:8080": "must be such as", "ftp://user": "must be such as", "http://user/path": "must be such as", "http://user?x=1": "must be such as",
		"http://me:secret@user": "must be such as", "dns+ftp://user:1": "must be such as", "mdns+http://user:1": "must be such as", "http://": "must be such as",
		"dns+http://user": "must say the port", "srv+http://_http._tcp.user:8080": "must have no port", "": "must be such as",
	} {
		_, err := gateway.ParseUpstream(bad)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	_, err := gateway.New(gateway.Config{}, gateway.Deps{Upstreams: gateway.Upstreams{
		User: gateway.Remote([]*url.URL{{Scheme: "gopher", Host: "user"}}, gateway.RemoteOptions{})}})
	if err == nil || !strings.Contains(err.Error(), "instances of the user service") {
		t.Errorf("a gateway with a bad upstream: %v", err)
	}
}

// What is accepted reads the same again, and no gateway stumbles over it.
func FuzzParseUpstream(f *testing.F) {
	for _, seed := range []string{"http://user:8080", "dns+https://user:443/", "srv+http://_http._tcp.user", "http://[::1]:80", "dns+http://[::1%25lo]:80", "http://a@b", "://"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := gateway.ParseUpstream(text)
		if err != nil {
			return
		}
		again, err := gateway.ParseUpstream(u.String())
		if err != nil || again.Host != u.Host || again.Scheme != u.Scheme {
			t.Errorf("%q reads as %v, then as %v, %v", text, u, again, err)
		}
		gateway.Remote([]*url.URL{u}, gateway.RemoteOptions{})
	})
}

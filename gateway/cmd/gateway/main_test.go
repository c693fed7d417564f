package main

import (
	"context"
	"crypto/ed25519"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/miekg/dns"

	"github.com/meet5/backend/service/config"
	"github.com/meet5/backend/service/token"
)

// names is a DNS server that has one address for every name under test.
func names(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started := make(chan struct{})
	server := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) },
		Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
			m := new(dns.Msg)
			m.SetReply(q)
			if q.Question[0].Qtype == dns.TypeA && strings.HasSuffix(q.Question[0].Name, ".test.") {
				m.Answer = append(m.Answer, &dns.A{A: net.IPv4(127, 0, 0, 1),
					Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}})
			}
			_ = w.WriteMsg(m)
		})}
	done := make(chan error, 1)
	go func() { done <- server.ActivateAndServe() }()
	<-started
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		<-done
	})
	return conn.LocalAddr().String()
}

// The program finds its services in DNS, and the keys of tokens with them.
func TestTheProgramFindsServicesAndKeysByName(t *testing.T) {
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := token.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/.well-known/jwks.json" {
			_, _ = w.Write(token.JWKS(signer.PublicKey()))
			return
		}
		_, _ = io.WriteString(w, "the service")
	}))
	defer service.Close()
	_, port, _ := net.SplitHostPort(service.Listener.Addr().String())
	var f flags
	if err := config.Parse(&f, "gateway", "", []string{"--listen", "127.0.0.1:0", "--dns-server", names(t),
		"--user-url", "dns+http://user.test:" + port, "--activity-url", "dns+http://activity.test:" + port + ",http://127.0.0.1:" + port,
		"--fraud-url", "srv+http://_http._tcp.fraud.test", "--projections-url", "dns+http://projections.test:" + port}, io.Discard); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	listening := make(chan net.Addr, 1)
	done := make(chan error, 1)
	go func() { done <- assemble(ctx, f, func(a net.Addr) { listening <- a }) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	raw, err := signer.Sign(token.Claims{Subject: uuid.New(), Session: uuid.New(), IssuedAt: time.Now(), ExpiresAt: time.Now().Add(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+(<-listening).String()+"/v1/me", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+raw)
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	res, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, err := io.ReadAll(res.Body); err != nil || res.StatusCode != http.StatusOK || string(body) != "the service" {
		t.Errorf("got %s %s, %v", res.Status, body, err)
	}
}

func TestWrongUsageIsNamed(t *testing.T) {
	var f flags
	err := config.Parse(&f, "gateway", "", []string{"--dns-server", "127.0.0.1", "--user-url", "http://user"}, io.Discard)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"activity-url", "fraud-url", "projections-url", "--dns-server"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %s: %v", want, err)
		}
	}
	if err := config.Parse(&f, "gateway", "", []string{"--user-url", "dns+http://user"}, io.Discard); err == nil || !strings.Contains(err.Error(), "must say the port") {
		t.Errorf("a name without a port: %v", err)
	}
}

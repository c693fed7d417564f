package gateway_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/run"
	"github.com/meet5/backend/service/token"
)

// An event passes on its way before the next one is there, and a gateway that
// drains ends the stream, so that neither waits for the other.
func TestEventsPassAtOnceAndEndWithTheGateway(t *testing.T) {
	more := make(chan string)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, r.Header.Get("Last-Event-ID")+r.Header.Get("Accept-Encoding")+"\n")
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case line := <-more:
				_, _ = io.WriteString(w, line+"\n")
			case <-r.Context().Done():
				return
			}
		}
	}))
	defer service.Close()
	at, err := url.Parse(service.URL)
	if err != nil {
		t.Fatal(err)
	}
	h := newHouse(t, gateway.Config{})
	g, err := gateway.New(gateway.Config{}, gateway.Deps{
		Verifier: token.NewVerifier(token.StaticKeySet{h.signer.KeyID(): h.signer.PublicKey()}, h.clock.now), Clock: h.clock.now,
		Upstreams: gateway.Upstreams{User: h.user, Activity: h.activity, Fraud: h.fraud, Projections: h.projections,
			Streams: gateway.Remote([]*url.URL{at}, gateway.RemoteOptions{Streams: true})},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, drain := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- run.Group(ctx, g.Run, func(ctx context.Context) error {
			return run.HTTP(ctx, run.Server{Listener: listener, Handler: g.Handler()})
		})
	}()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+listener.Addr().String()+"/v1/me/events", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", h.bearer(uuid.New()))
	r.Header.Set("Last-Event-ID", "seven")
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body := bufio.NewScanner(res.Body)
	if !body.Scan() || body.Text() != "seven" || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("it begins with %q, %v", body.Text(), res.Header)
	}
	for _, line := range []string{"one", "two"} {
		more <- line
		if !body.Scan() || body.Text() != line {
			t.Fatalf("got %q, want %q", body.Text(), line)
		}
	}
	drain()
	if body.Scan() {
		t.Errorf("and then %q", body.Text())
	}
	if err := <-ended; err != nil {
		t.Errorf("the gateway drained with %v", err)
	}
}

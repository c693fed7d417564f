package gateway_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/loadtest"
	"github.com/meet5/backend/service/run"
)

// The service and the clients of idle streams are a process of their own, this test
// binary again, so that what is measured is the gateway's alone.
const (
	idleGateway = "MEET5_TEST_IDLE_GATEWAY" // where clients connect to
	idleStreams = 5_000                     // each takes two files of the gateway
)

// TestIdleEnds is that process; by itself it does nothing. It says where its service
// is, opens a stream for each token that it is given, a line each, says so, and waits
// for its input to end.
func TestIdleEnds(t *testing.T) {
	at := os.Getenv(idleGateway)
	if at == "" {
		t.Skip("it is run by BenchmarkIdleStreamsThroughTheGateway")
	}
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "id: x\n\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	t.Cleanup(service.Close) // once the clients have left
	fmt.Println(service.URL)
	in := bufio.NewReader(os.Stdin)
	for i := range idleStreams {
		bearer, err := in.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(c, "GET /v1/me/events HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\n\r\n", strings.TrimSpace(bearer))
		r := bufio.NewReaderSize(c, 1024)
		for line := ""; !strings.HasPrefix(line, "id: "); {
			if line, err = r.ReadString('\n'); err != nil {
				t.Fatalf("connection %d: %q %v", i, line, err)
			}
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	fmt.Println("open")
	_, _ = in.ReadString('\n')
}

// BenchmarkIdleStreamsThroughTheGateway opens 5,000 streams through a gateway to a
// service elsewhere and says what each takes of the gateway's memory as the system
// sees it. It fails at what would be 400 MB for 10,000.
func BenchmarkIdleStreamsThroughTheGateway(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.Fatal(err)
		}
		h := newHouse(b, gateway.Config{})
		ends := exec.Command(os.Args[0], "-test.run=^TestIdleEnds$") //nolint:gosec // ourselves
		ends.Env = append(os.Environ(), idleGateway+"="+listener.Addr().String())
		in, err := ends.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		out, err := ends.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := ends.Start(); err != nil {
			b.Fatal(err)
		}
		said := bufio.NewReader(out)
		line, err := said.ReadString('\n')
		if err != nil {
			b.Fatal(err)
		}
		at, err := url.Parse(strings.TrimSpace(line))
		if err != nil {
			b.Fatal(err)
		}
		remote := newHouse(b, gateway.Config{}, func(d *gateway.Deps) {
			d.Verifier = h.verifier
			d.Upstreams.Streams = gateway.Remote([]*url.URL{at}, gateway.RemoteOptions{Streams: true})
		})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() {
			ended <- run.Group(ctx, remote.gateway.Run, func(ctx context.Context) error {
				return run.HTTP(ctx, run.Server{Listener: listener, Handler: remote.handler})
			})
		}()
		var tokens strings.Builder // everybody has their own
		for range idleStreams {
			tokens.WriteString(h.bearer(uuid.New()) + "\n")
		}
		debug.FreeOSMemory()
		before := loadtest.Resident(b)
		b.StartTimer()
		if _, err := io.WriteString(in, tokens.String()); err != nil {
			b.Fatal(err)
		}
		if line, err := said.ReadString('\n'); line != "open\n" {
			b.Fatalf("the clients say %q, %v", line, err)
		}
		b.StopTimer()
		each := (loadtest.Resident(b) - before) / idleStreams
		b.ReportMetric(float64(each), "B/stream")
		if each > 40_000 {
			b.Errorf("a stream takes %d bytes of the gateway", each)
		}
		_ = in.Close()
		if err := ends.Wait(); err != nil {
			b.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		b.StartTimer()
	}
}

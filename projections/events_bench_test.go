package projections_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/projections/memstore"
	"github.com/meet5/backend/service/loadtest"
)

// The clients of idle streams are a process of their own, this test binary again:
// so the memory that is measured is the server's alone, and neither process needs
// more than one file for each connection.
const (
	idleURL    = "MEET5_TEST_IDLE_URL"
	idleTokens = "MEET5_TEST_IDLE_TOKENS"
	idleCount  = "MEET5_TEST_IDLE_COUNT"
)

// TestIdleClients is that process; by itself it does nothing.
func TestIdleClients(t *testing.T) {
	address := os.Getenv(idleURL)
	if address == "" {
		t.Skip("it is run by BenchmarkIdleStreams")
	}
	n, err := strconv.Atoi(os.Getenv(idleCount))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(os.Getenv(idleTokens))
	if err != nil {
		t.Fatal(err)
	}
	bearers := strings.Fields(string(raw))
	open := make([]net.Conn, n)
	for i := range open {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		open[i] = c
		fmt.Fprintf(c, "GET /v1/me/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", bearers[i%len(bearers)])
		r := bufio.NewReaderSize(c, 1024)
		for line := ""; !strings.HasPrefix(line, "id: "); {
			if line, err = r.ReadString('\n'); err != nil || i == 0 && strings.HasPrefix(line, "HTTP/") && !strings.Contains(line, "200") {
				t.Fatalf("connection %d: %q %v", i, line, err)
			}
		}
	}
	fmt.Println("open")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	for _, c := range open {
		_ = c.Close()
	}
}

// BenchmarkIdleStreams opens 10,000 streams, eight of a member, and says what each
// takes of the server's memory as the system sees it. It fails at 400 MB.
func BenchmarkIdleStreams(b *testing.B) {
	const streams, most = 10_000, 400e6
	for b.Loop() {
		b.StopTimer()
		h := newHouse(b, memstore.New())
		i := h.instance()
		var bearers strings.Builder
		for range streams / 8 {
			fmt.Fprintln(&bearers, h.token(uuid.New()))
		}
		tokens := filepath.Join(b.TempDir(), "tokens")
		if err := os.WriteFile(tokens, []byte(bearers.String()), 0o600); err != nil {
			b.Fatal(err)
		}
		clients := exec.Command(os.Args[0], "-test.run=^TestIdleClients$") //nolint:gosec // ourselves
		clients.Env = append(os.Environ(), idleURL+"="+strings.TrimPrefix(i.url, "http://"), idleTokens+"="+tokens, idleCount+"="+strconv.Itoa(streams))
		end, err := clients.StdinPipe()
		if err != nil {
			b.Fatal(err)
		}
		said, err := clients.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		debug.FreeOSMemory()
		before := loadtest.Resident(b)
		b.StartTimer()
		if err := clients.Start(); err != nil {
			b.Fatal(err)
		}
		if line, err := bufio.NewReader(said).ReadString('\n'); line != "open\n" {
			b.Fatalf("the clients say %q, %v", line, err)
		}
		b.StopTimer()
		after := loadtest.Resident(b)
		b.ReportMetric(float64(after-before)/streams, "B/stream")
		b.ReportMetric(float64(after)/1e6, "MB-resident")
		if after > most {
			b.Errorf("%d bytes are resident with %d streams, %d before them", after, streams, before)
		}
		_ = end.Close()
		if err := clients.Wait(); err != nil {
			b.Error(err)
		}
		i.stop()
		b.StartTimer()
	}
}

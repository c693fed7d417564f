// Package loadtest is what benchmarks of servers share: a client that takes as little as
// can be of the processors, which it shares with what it measures, and how much memory
// that has.
package loadtest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Connections is how many a Flood comes over.
const Connections = 64

// Flood sends n requests to a server, over connections that share them out, and returns
// the time: ready bytes out, http.ReadResponse in. An answer of 300 or above is an error.
func Flood(b *testing.B, addr string, n int, requests ...[]byte) time.Duration {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	var clients sync.WaitGroup
	start := time.Now()
	for i := range Connections {
		request := requests[i%len(requests)]
		clients.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			for left.Add(-1) >= 0 {
				if _, err := conn.Write(request); err != nil {
					b.Error(err)
					return
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					b.Error(err)
					return
				}
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
				if err != nil || res.StatusCode >= http.StatusMultipleChoices {
					b.Errorf("%s, %v", res.Status, err)
					return
				}
			}
		})
	}
	clients.Wait()
	return time.Since(start)
}

// Resident is how much memory this process has, in bytes.
func Resident(b *testing.B) int {
	b.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("the system does not say how much memory a process has")
	}
	for line := range strings.Lines(string(status)) {
		if kb, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(kb), "kB")))
			if err != nil {
				b.Fatal(err)
			}
			return n << 10
		}
	}
	b.Fatal("no VmRSS")
	return 0
}

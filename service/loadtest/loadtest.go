// Package loadtest is what benchmarks of servers share: a client that takes as little as
// can be of the processors, which it shares with what it measures, and how much memory
// that has.
package loadtest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Connections is how many a Flood or a Pace comes over.
const Connections = 64

// Flood sends n requests to a server, over connections that share them out, and returns
// the time: ready bytes out, http.ReadResponse in. An answer of 300 or above is an error.
func Flood(b *testing.B, addr string, n int, requests ...[]byte) time.Duration {
	b.Helper()
	var left atomic.Int64
	left.Store(int64(n))
	start := time.Now()
	connect(b, addr, func(i int, ask func([]byte) error) error {
		for left.Add(-1) >= 0 {
			if err := ask(requests[i%len(requests)]); err != nil {
				return err
			}
		}
		return nil
	})
	return time.Since(start)
}

// Pace sends a request at a rate for a second, over as many connections as a Flood,
// whether answers come or not, and returns how long each took from when it was due.
func Pace(b *testing.B, addr string, perSecond float64, request []byte) []time.Duration {
	b.Helper()
	took := make([][]time.Duration, Connections)
	between := time.Duration(Connections / perSecond * float64(time.Second))
	start := time.Now()
	connect(b, addr, func(i int, ask func([]byte) error) error {
		for due := start.Add(between * time.Duration(i) / Connections); due.Sub(start) < time.Second; due = due.Add(between) {
			time.Sleep(time.Until(due))
			if err := ask(request); err != nil {
				return err
			}
			took[i] = append(took[i], time.Since(due))
		}
		return nil
	})
	return slices.Concat(took...)
}

// connect has each connection, of a number, ask what it likes.
func connect(b *testing.B, addr string, do func(i int, ask func(request []byte) error) error) {
	b.Helper()
	var clients sync.WaitGroup
	for i := range Connections {
		clients.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			in := bufio.NewReader(conn)
			if err := do(i, func(request []byte) error { return exchange(conn, in, request) }); err != nil {
				b.Error(err)
			}
		})
	}
	clients.Wait()
}

func exchange(conn net.Conn, in *bufio.Reader, request []byte) error {
	if _, err := conn.Write(request); err != nil {
		return err
	}
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, res.Body)
	if err = errors.Join(err, res.Body.Close()); err == nil && res.StatusCode >= http.StatusMultipleChoices {
		err = errors.New(res.Status)
	}
	return err
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

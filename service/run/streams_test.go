package run

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// brief is a time that a test waits for the end of.
const brief = 300 * time.Millisecond

// toWrite and toPing are servers' patience that ends soon in one thing alone, so that
// a slow machine is not taken for a bad client.
func toWrite() patience {
	return patience{header: time.Minute, idle: time.Minute, write: brief, pingAfter: time.Minute, ping: time.Minute}
}

func toPing() patience {
	return patience{header: time.Minute, idle: time.Minute, write: time.Minute, pingAfter: brief, ping: brief}
}

// serveHTTP2 runs a server with TLS for the rest of the test.
func serveHTTP2(t *testing.T, p patience, handler http.HandlerFunc) string {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	issue(t, certFile, keyFile, 1)
	c, err := LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- HTTP(ctx, Server{Listener: listener, Handler: handler, Certificate: c, patience: p})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// framed is a client that speaks HTTP/2 frame by frame.
type framed struct {
	net.Conn
	*http2.Framer
}

func dialHTTP2(t *testing.T, at string, settings ...http2.Setting) framed {
	t.Helper()
	c, err := tls.Dial("tcp", at, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // who it is does not matter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	f := framed{c, http2.NewFramer(c, c)}
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.WriteSettings(settings...), f.WriteSettingsAck()); err != nil {
		t.Fatal(err)
	}
	return f
}

// head is the header block of a request.
func head(method string) []byte {
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, f := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "x"}, {":path", "/"}} {
		_ = e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) // into memory
	}
	return b.Bytes()
}

// until reads frames until is has found what it looks for, or the connection ends.
// Pings are answered.
func (f framed) until(t *testing.T, is func(http2.Frame) bool) (found bool) {
	t.Helper()
	for {
		got, err := f.ReadFrame()
		if err != nil {
			return false
		}
		if ping, ok := got.(*http2.PingFrame); ok && !ping.IsAck() {
			_ = f.WritePing(true, ping.Data)
		}
		if is(got) {
			return true
		}
	}
}

// reset is the end of a stream by the server.
func reset(id uint32) func(http2.Frame) bool {
	return func(f http2.Frame) bool {
		r, ok := f.(*http2.RSTStreamFrame)
		return ok && r.StreamID == id && r.ErrCode != http2.ErrCodeNo
	}
}

// A client that gives a stream no room holds neither its handler nor what is
// sent after it, and other streams of the connection go on.
func TestAStreamThatIsNotReadIsReset(t *testing.T) {
	for name, size := range map[string]int{"a long answer": 1 << 20, "one that is sent after the handler": 100} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan error, 1)
			at := serveHTTP2(t, toWrite(), func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					return
				}
				_, err := io.WriteString(w, strings.Repeat("x", size))
				ended <- err
			})
			f := dialHTTP2(t, at, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("GET"), EndHeaders: true, EndStream: true}); err != nil {
				t.Fatal(err)
			}
			if !f.until(t, reset(1)) {
				t.Fatal("the connection ended, not the stream")
			}
			if err := <-ended; (err != nil) != (size > 4<<10) {
				t.Errorf("the handler was told %v", err)
			}
			if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: head("HEAD"), EndHeaders: true, EndStream: true}); err != nil {
				t.Fatal(err)
			}
			if !f.until(t, func(f http2.Frame) bool { return f.Header().StreamID == 3 && f.Header().Type == http2.FrameHeaders }) {
				t.Error("another stream gets no answer")
			}
		})
	}
}

// A handler that says nothing for longer than a client may take to read is left alone.
func TestAStreamMayBeSilent(t *testing.T) {
	at := serveHTTP2(t, toWrite(), func(w http.ResponseWriter, r *http.Request) {
		for range 2 {
			_, _ = io.WriteString(w, "x")
			if err := http.NewResponseController(w).Flush(); err != nil {
				t.Error(err)
			}
			select {
			case <-time.After(2 * brief):
			case <-r.Context().Done():
				t.Error("it was cut")
			}
		}
	})
	f := dialHTTP2(t, at)
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("GET"), EndHeaders: true, EndStream: true}); err != nil {
		t.Fatal(err)
	}
	var got string
	f.until(t, func(frame http2.Frame) bool {
		d, ok := frame.(*http2.DataFrame)
		if ok {
			got += string(d.Data())
		}
		return reset(1)(frame) || ok && d.StreamEnded()
	})
	if got != "xx" {
		t.Errorf("%q came", got)
	}
}

// A deadline for a body, as services and the gateway set it, ends an upload over
// HTTP/2 too, at whatever pace it comes.
func TestASlowUploadEndsOverHTTP2(t *testing.T) {
	ended := make(chan error, 1)
	at := serveHTTP2(t, toWrite(), func(w http.ResponseWriter, r *http.Request) {
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(brief)); err != nil {
			t.Error(err)
		}
		_, err := io.Copy(io.Discard, r.Body)
		ended <- err
	})
	f := dialHTTP2(t, at)
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("POST"), EndHeaders: true}); err != nil {
		t.Fatal(err)
	}
	drip := time.NewTicker(10 * time.Millisecond)
	defer drip.Stop()
	for {
		select {
		case <-drip.C:
			_ = f.WriteData(1, false, []byte("x")) // the stream may have ended
			continue
		case err := <-ended:
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("it ended with %v", err)
			}
		}
		return
	}
}

// A header that never ends, in frames that come again and again, ends its connection.
func TestAnEndlessHeaderEndsItsConnection(t *testing.T) {
	at := serveHTTP2(t, toPing(), func(http.ResponseWriter, *http.Request) { t.Error("it was served") })
	f := dialHTTP2(t, at)
	if err := f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head("GET")}); err != nil {
		t.Fatal(err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, f.Conn)
	}()
	drip := time.NewTicker(10 * time.Millisecond)
	defer drip.Stop()
	for {
		select {
		case <-drip.C:
			_ = f.WriteContinuation(1, false, nil) // the connection may have ended
			continue
		case <-gone:
		}
		return
	}
}

// Who asks for nothing and answers no ping is not kept.
func TestAConnectionThatAnswersNoPingEnds(t *testing.T) {
	at := serveHTTP2(t, toPing(), func(http.ResponseWriter, *http.Request) {})
	f := dialHTTP2(t, at)
	if _, err := io.Copy(io.Discard, f.Conn); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Log(err) // however it is ended
	}
}

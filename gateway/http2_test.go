package gateway_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meet5/backend/gateway"
	"github.com/meet5/backend/service/run"
)

// strict is a service that understands HTTP/1.1 to the letter and nothing beside it,
// and keeps what it is sent. It answers everything with an empty object.
type strict struct {
	mu        sync.Mutex
	requests  []heard
	malformed []string // what was wrong with what it was sent
	opened    int      // connections, ever
	open      int      // connections now
}

// heard is a request as it stood on the wire.
type heard struct {
	line   string
	fields []string // each line of the header, as it is
	body   string
}

// newStrict returns a service and its URL.
func newStrict(t testing.TB) (*strict, *url.URL) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &strict{}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			w.count(1)
			serving.Go(func() {
				defer w.count(-1)
				defer c.Close()
				w.serve(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait() // the gateway has let go of its connections before
	})
	return w, &url.URL{Scheme: "http", Host: listener.Addr().String()}
}

func (w *strict) count(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.open += n
	w.opened += max(0, n)
}

func (w *strict) serve(c net.Conn) {
	for r := bufio.NewReader(c); ; {
		h, err := hear(r)
		if err != nil {
			// A request that is cut short is none; it ends its connection.
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !isReset(err) {
				w.mu.Lock()
				w.malformed = append(w.malformed, err.Error())
				w.mu.Unlock()
			}
			return
		}
		w.mu.Lock()
		w.requests = append(w.requests, h)
		w.mu.Unlock()
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			return
		}
	}
}

func isReset(err error) bool {
	_, ok := errors.AsType[*net.OpError](err)
	return ok
}

var (
	requestLine = regexp.MustCompile(`^[A-Z]+ /[!"$-~]* HTTP/1\.1\r\n$`)
	fieldLine   = regexp.MustCompile("^[!#$%&'*+.^_`|~0-9A-Za-z-]+: [\t\x20-\x7e\u0080-\U0010ffff]*\r\n$")
	chunkLine   = regexp.MustCompile(`^[0-9a-f]{1,8}\r\n$`)
)

// hear reads one request, or says what is wrong with it.
func hear(r *bufio.Reader) (h heard, err error) {
	line := func(form *regexp.Regexp) string {
		if err != nil {
			return ""
		}
		var s string
		if s, err = r.ReadString('\n'); err == nil && !form.MatchString(s) && (form != fieldLine || s != "\r\n") {
			err = fmt.Errorf("no line like %v: %q", form, s)
		}
		return strings.TrimSuffix(s, "\r\n")
	}
	h.line = line(requestLine)
	once := map[string]string{}
	for err == nil {
		f := line(fieldLine)
		if f == "" {
			break
		}
		h.fields = append(h.fields, f)
		name, value, _ := strings.Cut(f, ": ")
		if name = textproto.CanonicalMIMEHeaderKey(name); name == "Content-Length" || name == "Transfer-Encoding" || name == "Host" {
			if _, twice := once[name]; twice {
				return h, fmt.Errorf("%s is there twice: %q", name, h.fields)
			}
			once[name] = value
		}
	}
	if err != nil {
		return h, err
	}
	length, counted := once["Content-Length"]
	encoding, chunked := once["Transfer-Encoding"]
	switch {
	case once["Host"] == "":
		return h, fmt.Errorf("no host: %q", h.fields)
	case counted && chunked:
		return h, fmt.Errorf("both lengths: %q", h.fields)
	case counted:
		n, err := strconv.ParseUint(length, 10, 31)
		if err != nil {
			return h, fmt.Errorf("the length %q", length)
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			return h, err
		}
		h.body = string(b)
	case chunked && encoding != "chunked":
		return h, fmt.Errorf("the encoding %q", encoding)
	case chunked:
		for size := int64(1); size > 0; {
			text := line(chunkLine)
			if err != nil {
				return h, err
			}
			if size, err = strconv.ParseInt(text, 16, 32); err != nil {
				return h, err
			}
			b := make([]byte, size)
			if _, err := io.ReadFull(r, b); err != nil {
				return h, err
			}
			h.body += string(b)
			if size == 0 {
				for f := line(fieldLine); f != ""; f = line(fieldLine) {
					h.fields = append(h.fields, "trailer "+f)
				}
				if err != nil {
					return h, err
				}
			} else if end, err := r.ReadString('\n'); err != nil || end != "\r\n" {
				return h, errors.Join(fmt.Errorf("a chunk ends with %q", end), err)
			}
		}
	}
	return h, nil
}

// taken returns what has come since it was asked last.
func (w *strict) taken() (requests []heard, malformed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	requests, malformed = w.requests, w.malformed
	w.requests, w.malformed = nil, nil
	return requests, malformed
}

// has returns the values of a field, whatever the case of its name.
func (h heard) has(name string) (values []string) {
	for _, f := range h.fields {
		if n, v, _ := strings.Cut(f, ": "); strings.EqualFold(n, name) {
			values = append(values, v)
		}
	}
	return values
}

// tlsFront is a gateway that speaks TLS and HTTP/2, before one service elsewhere.
type tlsFront struct {
	*house
	address string
	service *strict
}

func newTLSFront(t *testing.T, cfg gateway.Config) *tlsFront {
	t.Helper()
	service, at := newStrict(t)
	f := &tlsFront{service: service}
	f.house = newHouse(t, cfg, func(d *gateway.Deps) {
		r := gateway.Remote([]*url.URL{at}, gateway.RemoteOptions{})
		d.Upstreams = gateway.Upstreams{User: r, Activity: r, Fraud: r, Projections: r}
	})
	f.address = serveTLS(t, f.gateway)
	return f
}

// serveTLS serves a gateway for the rest of the test.
func serveTLS(t *testing.T, g *gateway.Gateway) (address string) {
	t.Helper()
	borrowed := httptest.NewTLSServer(nil)
	pair := borrowed.TLS.Certificates[0]
	borrowed.Close()
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: pair.Certificate[0]}, keyFile: {Type: "PRIVATE KEY", Bytes: key}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	certificate, err := run.LoadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
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
		ended <- run.Group(ctx, g.Run, func(ctx context.Context) error {
			return run.HTTP(ctx, run.Server{Listener: listener, Handler: g.Handler(), Certificate: certificate})
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return listener.Addr().String()
}

// peer is a client that speaks HTTP/2 frame by frame, well or badly.
type peer struct {
	t    testing.TB
	conn *tls.Conn
	*http2.Framer
	block    bytes.Buffer
	encoder  *hpack.Encoder
	settings map[http2.SettingID]uint32 // the server's
	next     uint32                     // stream
}

// dial begins a connection, with settings of the client's.
func dial(t testing.TB, address string, settings ...http2.Setting) *peer {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}) //nolint:gosec // who it is does not matter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Fatalf("%q is spoken", got)
	}
	p := &peer{t: t, conn: conn, Framer: http2.NewFramer(conn, conn), settings: map[http2.SettingID]uint32{}, next: 1}
	p.AllowIllegalWrites = true
	p.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	p.encoder = hpack.NewEncoder(&p.block)
	if _, err := io.WriteString(conn, http2.ClientPreface); err != nil {
		t.Fatal(err)
	}
	if err := p.WriteSettings(settings...); err != nil {
		t.Fatal(err)
	}
	f, err := p.ReadFrame()
	first, ok := f.(*http2.SettingsFrame)
	if err != nil || !ok {
		t.Fatalf("it begins with %v %v", f, err)
	}
	_ = first.ForeachSetting(func(s http2.Setting) error {
		p.settings[s.ID] = s.Val
		return nil
	})
	// Of the connection it takes whatever comes; of a stream, what its settings say.
	if err := errors.Join(p.WriteSettingsAck(), p.WriteWindowUpdate(0, 1<<30)); err != nil {
		t.Fatal(err)
	}
	return p
}

// fields are names and values in turn.
func fields(pairs ...string) (list []hpack.HeaderField) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return list
}

// encode makes a header block.
func (p *peer) encode(list []hpack.HeaderField) []byte {
	p.block.Reset()
	for _, f := range list {
		_ = p.encoder.WriteField(f) // into memory
	}
	return bytes.Clone(p.block.Bytes())
}

// open begins a stream.
func (p *peer) open(end bool, list []hpack.HeaderField) (id uint32, err error) {
	id = p.next
	p.next += 2
	return id, p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.encode(list), EndHeaders: true, EndStream: end})
}

// outcome is what became of a stream: a status, or that it or the whole connection
// was ended without one.
type outcome struct {
	status int
	reset  http2.ErrCode // of the stream; 0: none
	hungUp bool          // no more comes from the connection
}

func (o outcome) String() string {
	if o.status != 0 {
		return strconv.Itoa(o.status)
	}
	return "no answer"
}

// outcome waits for the end of a stream. It answers pings and settings.
func (p *peer) outcome(id uint32) (o outcome) {
	p.t.Helper()
	// An attack that neither succeeds nor fails must not last for ever.
	if err := p.conn.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	for {
		f, err := p.ReadFrame()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.t.Fatal("the stream does not end")
		case err != nil:
			return outcome{hungUp: true}
		}
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			if f.ErrCode != http2.ErrCodeNo || f.LastStreamID < id {
				return outcome{hungUp: true}
			}
		case *http2.PingFrame:
			if !f.IsAck() {
				_ = p.WritePing(true, f.Data)
			}
		case *http2.MetaHeadersFrame:
			if f.StreamID != id {
				continue
			}
			if o.status, err = strconv.Atoi(f.PseudoValue("status")); err != nil {
				p.t.Fatalf("an answer without a status: %v", f)
			}
			if f.StreamEnded() {
				return o
			}
		case *http2.DataFrame:
			if f.StreamID == id && f.StreamEnded() {
				return o
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == id {
				if o.status == 0 || f.ErrCode != http2.ErrCodeNo {
					return outcome{reset: f.ErrCode}
				}
				return o
			}
		}
	}
}

// met waits until the gateway has read what was sent so far.
func (p *peer) met() {
	p.t.Helper()
	if err := errors.Join(p.conn.SetReadDeadline(time.Now().Add(time.Minute)), p.WritePing(false, [8]byte{42})); err != nil {
		p.t.Fatal(err)
	}
	for {
		f, err := p.ReadFrame()
		if err != nil {
			p.t.Fatal(err)
		}
		if ping, ok := f.(*http2.PingFrame); ok && ping.IsAck() {
			return
		}
	}
}

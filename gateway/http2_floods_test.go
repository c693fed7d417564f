package gateway_test

import (
	"bufio"
	"bytes"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/meet5/backend/gateway"
)

// stillServes asks for something in a connection of its own.
func (f *tlsFront) stillServes(t *testing.T) {
	t.Helper()
	p := dial(t, f.address)
	id, err := p.open(true, get("/livez"))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.outcome(id).String(); got != "200" {
		t.Errorf("meanwhile, others get %s", got)
	}
}

// A few bytes that stand for a great many, by the table that HPACK keeps, cost no
// memory and reach nobody.
func TestAnHPACKBombReachesNobody(t *testing.T) {
	f := newTLSFront(t, gateway.Config{})
	for name, references := range map[string]int{"in a frame": 15_000, "a little too much": 10} {
		p := dial(t, f.address)
		bomb := p.encode(append(post(), hpack.HeaderField{Name: "x-bomb", Value: strings.Repeat("b", 3900)}))
		// 0x80|62 is the field that the table has got last.
		bomb = append(bomb, bytes.Repeat([]byte{0x80 | 62}, references)...)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if err := p.WriteRawFrame(http2.FrameHeaders, http2.FlagHeadersEndStream|http2.FlagHeadersEndHeaders, 1, bomb); err != nil {
			t.Fatal(err)
		}
		got := p.outcome(1)
		runtime.ReadMemStats(&after)
		if got.status != http.StatusRequestHeaderFieldsTooLarge && !got.hungUp {
			t.Errorf("%s: it came to %v", name, got)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 4<<20 {
			t.Errorf("%s: it took %d bytes", name, took)
		}
	}
	if requests, _ := f.service.taken(); len(requests) > 0 {
		t.Errorf("it reached a service: %d times", len(requests))
	}
	f.stillServes(t)
}

func TestAHeaderListHasABoundOverHTTP2(t *testing.T) {
	f := newTLSFront(t, gateway.Config{})
	p := dial(t, f.address)
	if got := p.settings[http2.SettingMaxHeaderListSize]; got == 0 || got > 40<<10 {
		t.Errorf("a client may send a header of %d bytes", got)
	}
	id := p.next
	block := p.encode(append(post(), many(33<<10)...))
	if err := p.headersInPieces(id, block, true); err != nil {
		t.Fatal(err)
	}
	if got := p.outcome(id); got.status != http.StatusRequestHeaderFieldsTooLarge && !got.hungUp {
		t.Errorf("33 KiB: it came to %v", got)
	}
	if requests, _ := f.service.taken(); len(requests) > 0 {
		t.Error("33 KiB reached a service")
	}
	p = dial(t, f.address)
	if err := p.headersInPieces(1, p.encode(append(post(), many(28<<10)...)), true); err != nil {
		t.Fatal(err)
	}
	if got := p.outcome(1).String(); got != "200" {
		t.Errorf("28 KiB: it came to %s", got)
	}
}

// many is fields of so many bytes together, as HTTP/2 counts.
func many(size int) (list []hpack.HeaderField) {
	for n := 0; n < size; {
		f := hpack.HeaderField{Name: "x-" + uuid.NewString(), Value: strings.Repeat("y", 500), Sensitive: true}
		list = append(list, f)
		n += int(f.Size())
	}
	return list
}

// headersInPieces sends a header block as HEADERS and CONTINUATION.
func (p *peer) headersInPieces(id uint32, block []byte, end bool) error {
	n := min(len(block), 16<<10)
	err := p.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block[:n], EndStream: true, EndHeaders: end && n == len(block)})
	for block = block[n:]; err == nil && len(block) > 0; block = block[n:] {
		n = min(len(block), 16<<10)
		err = p.WriteContinuation(id, end && n == len(block), block[:n])
	}
	return err
}

// flood writes until the gateway no longer takes it, and says how many bytes that
// were. The client reads nothing.
func (p *peer) flood(most int, write func() error) (bytes int) {
	// What is neither taken nor refused must not last for ever.
	if err := p.conn.SetWriteDeadline(time.Now().Add(time.Minute)); err != nil {
		p.t.Fatal(err)
	}
	for bytes < most {
		if err := write(); err != nil {
			return bytes
		}
		bytes += 9
	}
	p.t.Errorf("the gateway took %d frames", most/9)
	return bytes
}

func TestFloodsOfFramesEndTheirConnection(t *testing.T) {
	f := newTLSFront(t, gateway.Config{})
	for name, frame := range map[string]func(p *peer) func() error{
		"CONTINUATION": func(p *peer) func() error {
			_ = p.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: p.encode(post())})
			block := p.encode(many(8 << 10))
			return func() error { return p.WriteContinuation(1, false, block) }
		},
		"pings that nobody reads the answers of": func(p *peer) func() error {
			return func() error { return p.WritePing(false, [8]byte{1}) }
		},
		"resets of streams that were never opened": func(p *peer) func() error {
			return func() error { return p.WriteRSTStream(9, http2.ErrCodeCancel) }
		},
		"bad requests that nobody reads the answers of": func(p *peer) func() error {
			return func() error {
				_, err := p.open(true, post("x-a", "b\r\nc"))
				return err
			}
		},
		"data of no stream": func(p *peer) func() error {
			return func() error { return p.WriteData(9, false, []byte("x")) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := dial(t, f.address)
			// Many frames in a record of TLS: a flood is to be quick.
			p.Framer = http2.NewFramer(bufio.NewWriterSize(p.conn, 16<<10), nil)
			p.AllowIllegalWrites = true
			write := frame(p)
			p.flood(64<<20, write)
			f.stillServes(t)
		})
	}
	if requests, malformed := f.service.taken(); len(requests)+len(malformed) > 0 {
		t.Errorf("a service heard of it: %v %v", requests, malformed)
	}
}

// What is allowed but says nothing to us harms nobody.
func TestFramesThatMeanNothingAreHeededByNobody(t *testing.T) {
	f := newTLSFront(t, gateway.Config{})
	p := dial(t, f.address)
	for n := range 10_000 {
		id := uint32(2*n + 101)
		for _, err := range []error{
			p.WritePriority(id, http2.PriorityParam{StreamDep: id + 2, Weight: 255, Exclusive: true}),
			p.WriteRawFrame(0xbe, 0xff, id, []byte("nobody's")),
			p.WriteWindowUpdate(0, 1),
			p.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: uint32(n)}),
			p.WriteSettings(http2.Setting{ID: 0xbeef, Val: 1}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	p.next = 1
	id, err := p.open(true, get(keys))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.outcome(id).String(); got != "200" {
		t.Errorf("a request behind them came to %s", got)
	}
}

// CVE-2023-44487: requests that are taken back at once. What is under way stays within
// the bound of a connection, what is asked of a service within the rate of who asks.
func TestRequestsThatAreTakenBackCostNoMoreThanOthers(t *testing.T) {
	f := newTLSFront(t, gateway.Config{RateLimits: true})
	before := runtime.NumGoroutine()
	p := dial(t, f.address)
	for range 100 {
		first := p.next
		for range 100 {
			if _, err := p.open(true, get(keys, "x-forwarded-for", "203.0.113.9")); err != nil {
				t.Fatal(err)
			}
		}
		p.met() // the last ones are under way
		for id := first; id < p.next; id += 2 {
			if err := p.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
				t.Fatal(err)
			}
		}
	}
	if now := runtime.NumGoroutine(); now > before+4*bound {
		t.Errorf("%d goroutines more", now-before)
	}
	f.stillServes(t)
	id, err := p.open(true, get("/livez"))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.outcome(id).String(); got != "200" {
		t.Errorf("afterwards the connection gets %s", got)
	}
	requests, malformed := f.service.taken()
	if len(malformed) > 0 {
		t.Error(malformed)
	}
	// The clock stands still: the burst of an address.
	f.service.mu.Lock()
	defer f.service.mu.Unlock()
	if len(requests) > 200 || f.service.opened > 200 {
		t.Errorf("%d requests reached the service by %d connections", len(requests), f.service.opened)
	}
}

// bound is docs/limits.md's for the requests of a connection.
const bound = 128

func TestAConnectionHasABoundOfRequestsAtOnce(t *testing.T) {
	var now, most, ever atomic.Int64
	release := make(chan struct{})
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		ever.Add(1)
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		<-release // whether or not it is taken back
		now.Add(-1)
	})
	h := newHouse(t, gateway.Config{}, func(d *gateway.Deps) {
		d.Upstreams = gateway.Upstreams{User: hang, Activity: hang, Fraud: hang, Projections: hang}
	})
	f := &tlsFront{house: h, address: serveTLS(t, h.gateway)}
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	p := dial(t, f.address)
	if got := p.settings[http2.SettingMaxConcurrentStreams]; got != bound {
		t.Errorf("a client is told that it may make %d", got)
	}
	for range bound {
		if _, err := p.open(true, post()); err != nil {
			t.Fatal(err)
		}
	}
	// One more than it may is refused, and takes nothing from the others.
	id, err := p.open(true, get("/livez"))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.outcome(id); got.reset != http2.ErrCodeRefusedStream && got.reset != http2.ErrCodeProtocol {
		t.Errorf("one more came to %+v", got)
	}
	f.stillServes(t)
	// Taken back, they make room for others in the connection's count; the handlers
	// that go on count all the same, until it is too much.
	for id := uint32(1); id < 2*bound; id += 2 {
		if err := p.WriteRSTStream(id, http2.ErrCodeCancel); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 * bound {
		id, err := p.open(true, post())
		if err == nil {
			err = p.WriteRSTStream(id, http2.ErrCodeCancel)
		}
		if err != nil {
			break
		}
	}
	if got := p.outcome(p.next); !got.hungUp {
		t.Errorf("the connection goes on: %+v", got)
	}
	once.Do(func() { close(release) })
	if most.Load() > bound {
		t.Errorf("%d requests of a connection were under way at once", most.Load())
	}
	f.stillServes(t)
}

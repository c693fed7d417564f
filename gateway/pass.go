package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/failsafe-go/failsafe-go/bulkhead"

	"github.com/meet5/backend/gateway/wire"
)

var errSwitched = errors.New("the instance speaks another protocol")

// ServeHTTP passes a request on and its answer back.
func (r *remote) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	p := planOf(req)
	room := r.rooms[p.kind]
	if !room.TryAcquirePermit() {
		r.refused[refusedByBulkhead].Add(1)
		r.fail(w, req, bulkhead.ErrFull)
		return
	}
	defer room.ReleasePermit()
	if req.Header["Connection"] != nil {
		dropListed(req.Header)
	}
	if odd(req.URL.RawQuery) {
		req = cleaned(req)
	}
	res, err := r.RoundTrip(req)
	if err == nil && res.StatusCode == http.StatusSwitchingProtocols {
		_ = res.Body.Close()
		err = errSwitched
	}
	if err != nil {
		r.fail(w, req, err)
		return
	}
	defer res.Body.Close()
	announced := len(res.Trailer)
	passHead(w, res)
	if p.kind == streamed || strings.HasPrefix(w.Header().Get("Content-Type"), "text/event-stream") {
		err = r.buffers.follow(w, res.Body)
	} else {
		err = r.buffers.copy(w, res.Body)
	}
	if err == nil {
		if len(res.Trailer) > 0 {
			passTrailer(w, res.Trailer, announced)
		}
		return
	}
	if req.Context().Err() == nil {
		r.report("an answer breaks off", req, err)
	}
	// Half an answer must not look like a whole one. Without a server there is nobody
	// to cut off, and nobody to contain the panic.
	if req.Context().Value(http.ServerContextKey) != nil {
		panic(http.ErrAbortHandler)
	}
}

// passHead passes the head of an answer on.
func passHead(w http.ResponseWriter, res *http.Response) {
	h := w.Header()
	if res.Header["Connection"] != nil {
		dropListed(res.Header)
	}
	for name, values := range res.Header {
		switch {
		case wire.OfConnection(name), slices.Contains(saidByGateway, name):
		case name == "Cache-Control" || h[name] == nil: // the service's word before ours
			h[name] = values
		default:
			h[name] = append(h[name], values...)
		}
	}
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	w.WriteHeader(res.StatusCode)
}

// passTrailer passes on what comes behind an answer, of which so many fields were
// announced.
func passTrailer(w http.ResponseWriter, trailer http.Header, announced int) {
	// An answer that has one goes in chunks.
	_ = http.NewResponseController(w).Flush()
	prefix := ""
	if len(trailer) != announced {
		prefix = http.TrailerPrefix
	}
	for name, values := range trailer {
		w.Header()[prefix+name] = values
	}
}

// dropListed drops what a Connection field names, and that field. What the gateway
// says itself stays.
func dropListed(h http.Header) {
	for _, names := range h["Connection"] {
		for name := range strings.SplitSeq(names, ",") {
			if name = http.CanonicalHeaderKey(textproto.TrimString(name)); name != "X-Forwarded-For" {
				delete(h, name)
			}
		}
	}
	delete(h, "Connection")
}

// odd says that a query has parameters that services may read in different ways.
func odd(query string) bool {
	for i := range len(query) {
		if c := query[i]; c == ';' || c == '%' && (i+2 >= len(query) || !hexadecimal(query[i+1]) || !hexadecimal(query[i+2])) {
			return true
		}
	}
	return false
}

// cleaned is a request without such parameters.
func cleaned(req *http.Request) *http.Request {
	u := *req.URL
	values, _ := url.ParseQuery(u.RawQuery) // an error is of what is dropped
	u.RawQuery = values.Encode()
	req = req.WithContext(req.Context())
	req.URL = &u
	return req
}

func hexadecimal(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// buffers is a pool of buffers that answers are copied with.
type buffers struct {
	size int
	pool sync.Pool
}

func (b *buffers) take() *[]byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return p
	}
	p := make([]byte, b.size)
	return &p
}

// copy copies what there is of an answer to its end.
func (b *buffers) copy(w io.Writer, from io.Reader) error {
	p := b.take()
	defer b.pool.Put(p)
	for {
		n, err := from.Read(*p)
		if n > 0 {
			if _, err := w.Write((*p)[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return atEnd(err)
		}
	}
}

// follow copies an answer as it comes.
func (b *buffers) follow(w http.ResponseWriter, from io.Reader) error {
	to := http.NewResponseController(w)
	// What cannot be flushed is written later. To write a head takes 3 KiB of stack.
	onOwnStack(func() { _ = to.Flush() })
	p := b.take()
	defer b.pool.Put(p)
	for {
		n, err := from.Read(*p)
		if n > 0 {
			if _, err := w.Write((*p)[:n]); err != nil {
				return err
			}
			_ = to.Flush()
		}
		if err != nil {
			return atEnd(err)
		}
	}
}

// onOwnStack calls what needs a deep stack, for a request whose answer has no end: its
// goroutine would keep the stack for as long as a quarter of it is in use.
func onOwnStack(do func()) {
	done := make(chan any, 1)
	go func() {
		defer func() { done <- recover() }()
		do()
	}()
	if v := <-done; v != nil {
		panic(v)
	}
}

// atEnd is an error of a copy; that all has been copied is none.
func atEnd(err error) error {
	if err == io.EOF { //nolint:errorlint // wrapped, it would be one
		return nil
	}
	return err
}

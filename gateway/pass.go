package gateway

import (
	"errors"
	"io"
	"log/slog"
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
	dropListed(req.Header)
	if clean := cleanQuery(req.URL.RawQuery); clean != req.URL.RawQuery {
		u := *req.URL
		u.RawQuery = clean
		req = req.WithContext(req.Context())
		req.URL = &u
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
	err = r.answer(w, res, p.kind == streamed)
	if err == nil {
		return
	}
	if req.Context().Err() == nil {
		r.log.LogAttrs(req.Context(), slog.LevelWarn, "an answer breaks off",
			slog.String("method", req.Method), slog.String("path", req.URL.Path),
			slog.String("request_id", requestID(req)), slog.Any("error", err))
	}
	// Half an answer must not look like a whole one. Without a server there is nobody
	// to cut off, and nobody to contain the panic.
	if req.Context().Value(http.ServerContextKey) != nil {
		panic(http.ErrAbortHandler)
	}
}

// answer passes an answer on. One without an end goes on as it comes.
func (r *remote) answer(w http.ResponseWriter, res *http.Response, endless bool) error {
	h := w.Header()
	dropListed(res.Header)
	for name, values := range res.Header {
		switch {
		case wire.OfConnection(name), slices.Contains(saidByGateway, name):
		case name == "Cache-Control" || h[name] == nil: // the service's word before ours
			h[name] = values
		default:
			h[name] = append(h[name], values...)
		}
	}
	announced := len(res.Trailer)
	for name := range res.Trailer {
		h.Add("Trailer", name)
	}
	w.WriteHeader(res.StatusCode)
	flush := func() {}
	if endless || strings.HasPrefix(h.Get("Content-Type"), "text/event-stream") {
		to := http.NewResponseController(w)
		flush = func() { _ = to.Flush() } // what cannot be flushed is written later
		flush()
	}
	if err := r.buffers.copy(w, res.Body, flush); err != nil {
		return err
	}
	if len(res.Trailer) == 0 {
		return nil
	}
	// It is there only now, and an answer that has one goes in chunks.
	_ = http.NewResponseController(w).Flush()
	prefix := ""
	if len(res.Trailer) != announced {
		prefix = http.TrailerPrefix
	}
	for name, values := range res.Trailer {
		h[prefix+name] = values
	}
	return nil
}

// dropListed drops what a Connection field names, and that field. What the gateway
// says itself stays.
func dropListed(h http.Header) {
	listed := h["Connection"]
	if listed == nil {
		return
	}
	for _, names := range listed {
		for name := range strings.SplitSeq(names, ",") {
			if name = http.CanonicalHeaderKey(textproto.TrimString(name)); name != "X-Forwarded-For" {
				delete(h, name)
			}
		}
	}
	delete(h, "Connection")
}

// cleanQuery is a query without those of its parameters that services may read in
// different ways.
func cleanQuery(query string) string {
	for i := 0; i < len(query); i++ {
		switch {
		case query[i] == ';', query[i] == '%' && (i+2 >= len(query) || !hexadecimal(query[i+1]) || !hexadecimal(query[i+2])):
			values, _ := url.ParseQuery(query) // without them
			return values.Encode()
		}
	}
	return query
}

func hexadecimal(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// buffers is a pool of buffers that answers are copied with.
type buffers struct {
	size int
	pool sync.Pool
}

// copy copies an answer, and calls flush after each piece.
func (b *buffers) copy(w io.Writer, from io.Reader, flush func()) error {
	p, ok := b.pool.Get().(*[]byte)
	if !ok {
		fresh := make([]byte, b.size)
		p = &fresh
	}
	defer b.pool.Put(p)
	for {
		n, err := from.Read(*p)
		if n > 0 {
			if _, err := w.Write((*p)[:n]); err != nil {
				return err
			}
			flush()
		}
		switch err {
		case nil:
		case io.EOF:
			return nil
		default:
			return err
		}
	}
}

package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/meet5/backend/service/problem"
)

const (
	dialTimeout = 2 * time.Second
	tlsTimeout  = 5 * time.Second
	// responseTimeout bounds the wait for an answer to begin, once the request has
	// been sent. How long an answer takes is not bounded: an export may run for
	// hours.
	responseTimeout = 30 * time.Second
	// idleConns bounds the kept connections to one instance, and idleFor their
	// time, which is shorter than the 120 s after which a service closes them.
	idleConns = 128
	idleFor   = 60 * time.Second
	// maxConns bounds the connections to one instance. Beyond it requests wait.
	maxConns = 1024
	// maxStreams is maxConns where answers do not end, and streamCopySize is copySize:
	// a stream holds its buffer for as long as it lasts.
	maxStreams     = 20_000
	streamCopySize = 2 << 10
	// copySize is the size, in bytes, of a buffer that answers are copied with.
	copySize = 32 << 10
	// upstreamRetry is what a client is told when no instance answers.
	upstreamRetry = time.Second
	// askTimeout bounds how long instances may take to say whether they are ready;
	// it is less than health.CheckTimeout.
	askTimeout = time.Second
	// maxReadiness bounds, in bytes, what is read of an instance's /readyz.
	maxReadiness = 64 << 10
)

// RemoteOptions of [Remote]. The zero value is fit for use.
type RemoteOptions struct {
	// ByActor sends what a user writes to the instance that their partition of the
	// activity log belongs to, so that writers of one partition seldom meet.
	ByActor bool
	// Streams is for answers that do not end: many at once, with little memory each.
	Streams bool
	// Logger drops everything if nil.
	Logger *slog.Logger
	// Clock is time.Now if nil.
	Clock func() time.Time
}

// remote is a service elsewhere, of one or more instances.
type remote struct {
	balancer  *balancer
	transport *http.Transport
	proxy     *httputil.ReverseProxy
	log       *slog.Logger
	seen      atomic.Bool // an instance has been ready
}

// Remote makes an upstream of a service's instances. Requests are spread over
// them; one that could just now not be connected to is passed over. If none can
// be reached, the answer is 503. A URL is scheme, host and nothing else.
func Remote(urls []*url.URL, o RemoteOptions) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	r := &remote{log: o.Logger, transport: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:   tlsTimeout,
		ResponseHeaderTimeout: responseTimeout,
		MaxIdleConnsPerHost:   idleConns,
		MaxConnsPerHost:       maxConns,
		IdleConnTimeout:       idleFor,
		DisableCompression:    true, // pass on what was asked for and answered
	}}
	size := copySize
	if o.Streams {
		size = streamCopySize
		r.transport.MaxConnsPerHost = maxStreams
		r.transport.ReadBufferSize, r.transport.WriteBufferSize = streamCopySize, streamCopySize
	}
	r.balancer = newBalancer(urls, r.transport, o)
	r.proxy = &httputil.ReverseProxy{
		Rewrite:        rewrite,
		Transport:      r.balancer,
		ModifyResponse: dropOwn,
		ErrorHandler:   r.fail,
		BufferPool:     &buffers{size: size},
		ErrorLog:       slog.NewLogLogger(o.Logger.Handler(), slog.LevelWarn),
	}
	return r
}

func (r *remote) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.proxy.ServeHTTP(&onceWriter{ResponseWriter: w}, req)
}

// onceWriter gives an answer the service's word where both have said something:
// the proxy adds to what is there.
type onceWriter struct {
	http.ResponseWriter
	begun bool
}

func (w *onceWriter) WriteHeader(status int) {
	if h := w.Header(); !w.begun && len(h["Cache-Control"]) > 1 {
		h["Cache-Control"] = h["Cache-Control"][1:]
	}
	w.begun = w.begun || status >= http.StatusOK
	w.ResponseWriter.WriteHeader(status)
}

func (w *onceWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// rewrite leaves the instance to the balancer, and passes on the address that the
// gateway has found out.
func rewrite(pr *httputil.ProxyRequest) {
	pr.Out.Header.Del("Upgrade")
	pr.Out.Header.Del("Connection")
	if from := pr.In.Header["X-Forwarded-For"]; from != nil {
		pr.Out.Header["X-Forwarded-For"] = from
	}
}

// dropOwn drops what the gateway says itself.
func dropOwn(res *http.Response) error {
	for _, name := range saidByGateway {
		res.Header.Del(name)
	}
	return nil
}

// fail answers a request that could not be passed on.
func (r *remote) fail(w http.ResponseWriter, req *http.Request, err error) {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		problem.Write(w, req, problem.Of(tooLarge))
		return
	}
	if !errors.Is(req.Context().Err(), context.Canceled) {
		r.log.LogAttrs(req.Context(), slog.LevelWarn, "upstream failed",
			slog.String("method", req.Method), slog.String("path", req.URL.Path),
			slog.String("request_id", requestID(req)), slog.Any("error", err))
	}
	problem.Write(w, req, problem.Unavailable("a part of the service does not answer right now; try again in a moment", upstreamRetry))
}

// Ready is a health.Check. It asks every instance. Until one of them has been
// ready, the check fails; after that it only tells how many are, since what the
// other services do must go on.
func (r *remote) Ready(ctx context.Context) (any, error) {
	// Less than a check may take: an instance that is slow to say is not ready, and
	// that must not make the gateway so.
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var ready atomic.Int64
	var wait sync.WaitGroup
	for _, i := range r.balancer.instances {
		wait.Go(func() {
			if r.ask(ctx, i.url) == nil {
				ready.Add(1)
			}
		})
	}
	wait.Wait()
	detail := struct {
		Instances int   `json:"instances"`
		Ready     int64 `json:"ready"`
	}{len(r.balancer.instances), ready.Load()}
	if detail.Ready > 0 {
		r.seen.Store(true)
	}
	if !r.seen.Load() {
		return detail, errors.New("no instance has been ready yet")
	}
	return detail, nil
}

func (r *remote) ask(ctx context.Context, base *url.URL) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base.JoinPath("/readyz").String(), nil)
	if err != nil {
		return err
	}
	res, err := r.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// Read to the end, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, res.Body, maxReadiness)
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", base.Host, res.Status)
	}
	return nil
}

// buffers is the proxy's pool of copy buffers.
type buffers struct {
	size int
	pool sync.Pool
}

func (b *buffers) Get() []byte {
	if p, ok := b.pool.Get().(*[]byte); ok {
		return *p
	}
	return make([]byte, b.size)
}

func (b *buffers) Put(p []byte) { b.pool.Put(&p) }

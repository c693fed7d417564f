package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/bulkhead"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/meet5/backend/service/problem"
)

const (
	dialTimeout = 2 * time.Second
	tlsTimeout  = 5 * time.Second
	// idleConns bounds the kept connections to one instance, and idleFor their
	// time, which is shorter than the 120 s after which a service closes them.
	idleConns = 128
	idleFor   = 60 * time.Second
	// copySize is the size, in bytes, of a buffer that answers are copied with, and
	// readAhead what a connection to an instance reads ahead.
	copySize  = 32 << 10
	readAhead = 4 << 10
	// The same where answers do not end: a stream holds them for as long as it lasts.
	streamCopySize  = 1 << 10
	streamReadAhead = 512
	// upstreamRetry is what a client is told when no instance answers.
	upstreamRetry = time.Second
	// askTimeout bounds how long instances may take to say whether they are ready;
	// it is less than health.CheckTimeout.
	askTimeout = time.Second
	// maxReadiness bounds, in bytes, what is read of an instance's /readyz.
	maxReadiness = 64 << 10
)

// serviceRoom is how many requests may be under way at one service, all instances
// together. It is well below what the gateway as a whole may have under way, so
// that a service that hangs cannot take all of that.
var serviceRoom = [kinds]uint{ordinary: 1024, bulky: 64, streamed: 40_960}

// refusal is why a request did not get to any instance.
type refusal uint8

const (
	refusedByBulkhead refusal = iota
	refusedByBreaker
	refusals
)

var refusalNames = [refusals]string{"bulkhead", "breaker"}

// Upstream is a service elsewhere. As a RoundTripper it sends requests of any host
// to that service.
type Upstream interface {
	http.Handler
	http.RoundTripper
}

// RemoteOptions of [Remote]. The zero value is fit for use.
type RemoteOptions struct {
	// ByActor sends what a user writes to the instance that their partition of the
	// activity log belongs to, so that writers of one partition seldom meet.
	ByActor bool
	// Resolver looks names up; the system's if nil.
	Resolver *net.Resolver
	// Streams is for answers that do not end: many at once, with little memory each.
	Streams bool
	// RootCAs are whose certificates instances behind https must have; the system's
	// if nil.
	RootCAs *x509.CertPool
	// Logger drops everything if nil.
	Logger *slog.Logger
	// Clock is time.Now if nil.
	Clock func() time.Time
	// Random chooses between instances; a good source of its own if nil. It is
	// called by many at once.
	Random func() uint64
}

// remote is a service elsewhere, of one or more instances.
type remote struct {
	balancer *balancer
	buffers  buffers
	rooms    [kinds]bulkhead.Bulkhead[any]
	breaker  circuitbreaker.CircuitBreaker[any]
	opened   atomic.Uint64 // times of the breaker
	retries  failsafe.Executor[answer]
	budget   *retryBudget
	refused  [refusals]atomic.Uint64
	log      *slog.Logger
	fault    error       // of its URLs
	seen     atomic.Bool // an instance has been ready
}

// Remote makes an upstream of a service's instances, which urls say as
// [ParseUpstream] reads them; a bad one is reported by [New]. Requests go to the
// instance with less under way, as the balancer says; one that could just now not
// be connected to, or fails more than the others, is passed over. Names are looked
// up, and followed, while the gateway runs. If none can be reached, the answer is
// 503.
func Remote(urls []*url.URL, o RemoteOptions) Upstream {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	r := &remote{log: o.Logger, budget: newRetryBudget(o.Clock)}
	var sources []*source
	for _, u := range urls {
		s, err := newSource(u)
		if err != nil {
			r.fault = errors.Join(r.fault, err)
			continue
		}
		sources = append(sources, s)
	}
	r.balancer = newBalancer(sources, o)
	r.retries = newRetries(r.budget)
	r.breaker = newBreaker(breakerPause, &r.opened)
	for k := range r.rooms {
		r.rooms[k] = newRoom(serviceRoom[k])
	}
	r.buffers.size = copySize
	if o.Streams {
		r.buffers.size = streamCopySize
	}
	return r
}

func newRoom(n uint) bulkhead.Bulkhead[any] { return bulkhead.New[any](n) }

// run follows the instances until ctx ends, then lets go of connections that
// nobody uses.
func (r *remote) run(ctx context.Context) {
	r.balancer.run(ctx)
	for _, i := range *r.balancer.set.Load() {
		i.closeIdle()
	}
}

// fail answers a request that could not be passed on.
func (r *remote) fail(w http.ResponseWriter, req *http.Request, err error) {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		problem.Write(w, req, problem.Of(tooLarge))
		return
	}
	switch {
	case errors.Is(err, bulkhead.ErrFull), errors.Is(err, errFull), errors.Is(err, circuitbreaker.ErrOpen):
		// They are counted; there may be thousands a second.
	case !errors.Is(req.Context().Err(), context.Canceled):
		r.report("upstream failed", req, err)
	}
	problem.Write(w, req, problem.Unavailable("a part of the service does not answer right now; try again in a moment", max(upstreamRetry, r.breaker.RemainingDelay())))
}

func (r *remote) report(what string, req *http.Request, err error) {
	r.log.LogAttrs(req.Context(), slog.LevelWarn, what,
		slog.String("method", req.Method), slog.String("path", req.URL.Path),
		slog.String("request_id", requestID(req)), slog.Any("error", err))
}

// readiness is how a service elsewhere stands.
type readiness struct {
	Instances   int    `json:"instances"`
	Ready       int64  `json:"ready"`
	Ejected     int    `json:"ejected"`
	Unreachable int    `json:"unreachable"`
	Draining    int    `json:"draining"`
	Breaker     string `json:"breaker"`
}

// standing is that without asking anyone.
func (r *remote) standing() readiness {
	now := r.balancer.now().UnixNano()
	s := readiness{Draining: r.balancer.draining(), Breaker: r.breaker.State().String()}
	for _, i := range *r.balancer.set.Load() {
		s.Instances++
		switch {
		case i.ejectedUntil.Load() > now:
			s.Ejected++
		case i.unreachableUntil.Load() > now:
			s.Unreachable++
		}
	}
	return s
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
	for _, i := range *r.balancer.set.Load() {
		wait.Go(func() {
			if askReady(ctx, i) == nil {
				ready.Add(1)
			}
		})
	}
	wait.Wait()
	detail := r.standing()
	detail.Ready = ready.Load()
	if detail.Ready > 0 {
		r.seen.Store(true)
	}
	if !r.seen.Load() {
		return detail, errors.New("no instance has been ready yet")
	}
	return detail, nil
}

func askReady(ctx context.Context, i *instance) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, i.url.JoinPath("/readyz").String(), nil)
	if err != nil {
		return err
	}
	res, err := i.transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	// Read to the end, so that the connection can be used again.
	_, _ = io.CopyN(io.Discard, res.Body, maxReadiness)
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("ask %s: %s", i.host, res.Status)
	}
	return nil
}

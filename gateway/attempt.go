package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/retrypolicy"

	"github.com/meet5/backend/gateway/wire"
	"github.com/meet5/backend/service/web"
)

const (
	// maxRetries is how often a request that may be repeated is sent again.
	maxRetries = 2
	// retryPause is the mean of the pause before a retry, and doubles to
	// retryPauseMost. The pause is anything between 0 and twice that (full jitter).
	retryPause     = 25 * time.Millisecond
	retryPauseMost = 200 * time.Millisecond

	// maxDropped is how much, in bytes, of an answer that nobody wants is read.
	maxDropped = 4 << 10

	// The breaker opens when so large a share of so many attempts within so long
	// got no answer.
	breakerShare    = 0.5
	breakerAttempts = 20
	breakerPeriod   = 10 * time.Second
	// breakerPause is how long it stays open; give or take a quarter.
	breakerPause = time.Second
	// Then so many attempts are let through, of which so many must be answered.
	breakerTrials    = 5
	breakerSuccesses = 4
)

var (
	errSlow = errors.New("the instance took too long to begin its answer")
	// errAgain stands for an answer that says to try elsewhere.
	errAgain = errors.New("the instance cannot answer right now")
)

// unanswered is an attempt that got no answer. What was asked may have been done.
type unanswered struct{ err error }

func (u *unanswered) Error() string { return u.err.Error() }
func (u *unanswered) Unwrap() error { return u.err }

// answer is what an attempt brought.
type answer struct{ res *http.Response }

func newRetries(b *retryBudget) failsafe.Executor[answer] {
	return failsafe.With[answer](retrypolicy.NewBuilder[answer]().
		HandleIf(func(_ answer, err error) bool {
			_, ok := errors.AsType[*unanswered](err)
			return ok || errors.Is(err, errAgain)
		}).
		WithMaxRetries(maxRetries).
		WithBackoff(retryPause, retryPauseMost).WithJitterFactor(1).
		WithBudget(b).
		ReturnLastFailure().
		Build())
}

func newBreaker(pause time.Duration, opened *atomic.Uint64) circuitbreaker.CircuitBreaker[any] {
	return circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(breakerShare, breakerAttempts, breakerPeriod).
		WithSuccessThresholdRatio(breakerSuccesses, breakerTrials).
		WithDelay(pause).WithJitterFactor(.25).
		OnOpen(func(circuitbreaker.StateChangedEvent) { opened.Add(1) }).
		Build()
}

// tries is what a request has been through.
type tries struct {
	instances []*instance
	sent      int
}

// RoundTrip implements http.RoundTripper: it asks one instance, and another one if
// that could not be connected to. If the request may be repeated, it is sent again
// after it got no answer, or one of 502, 503 or 504, while there is budget.
func (r *remote) RoundTrip(req *http.Request) (*http.Response, error) {
	if r.fault != nil {
		return nil, r.fault
	}
	r.balancer.await(req.Context())
	p := planOf(req)
	var t tries
	if !p.repeat || req.Body != nil && req.Body != http.NoBody && req.GetBody == nil {
		limit := time.Duration(0)
		if p.kind == streamed {
			limit = p.timeout
		}
		return r.attempt(req, p, &t, limit)
	}
	res, err := r.attempt(req, p, &t, r.patience(req.Context(), p, 0))
	if settled(res, err) { // as nearly all are
		r.budget.RecordExecution()
		return res, err
	}
	return r.again(req, p, &t, res, err)
}

// settled says that what came of an attempt is not retried.
func settled(res *http.Response, err error) bool {
	_, none := errors.AsType[*unanswered](err)
	return !none && (err != nil || !triesElsewhere(res.StatusCode))
}

// again retries a request after its first attempt, of which res and err came.
func (r *remote) again(req *http.Request, p plan, t *tries, res *http.Response, err error) (*http.Response, error) {
	var kept *http.Response
	var failure error
	defer func() { drop(kept) }()
	first := true
	got, err := r.retries.WithContext(req.Context()).GetWithExecution(func(failsafe.Execution[answer]) (answer, error) {
		drop(kept)
		kept = nil
		if !first {
			res, err = r.attempt(req, p, t, r.patience(req.Context(), p, t.sent)) //nolint:bodyclose // it is returned or dropped
		}
		first, failure = false, err
		switch {
		case settled(res, err), t.sent > maxRetries, !r.budget.allows():
			return answer{res}, final(err)
		case err != nil:
			return answer{}, err
		}
		kept = res
		return answer{}, errAgain
	})
	switch {
	case err == nil:
		return got.res, nil
	case kept != nil: // better than none
		got.res, kept = kept, nil
		return got.res, nil
	case failure != nil:
		// Not what stopped the retries, but what they were for.
		err = failure
	}
	return nil, err
}

// final is an error that is not retried.
func final(err error) error {
	if u, ok := errors.AsType[*unanswered](err); ok {
		return u.err
	}
	return err
}

// patience is how long an attempt may wait for its answer to begin; 0: as long as
// the request has. One that another can follow leaves it half of the time.
func (r *remote) patience(ctx context.Context, p plan, sent int) time.Duration {
	limit := time.Duration(0)
	if p.kind == streamed {
		limit = p.timeout
	}
	if sent >= maxRetries || r.budget.Left() < 1 {
		return limit
	}
	if until, ok := ctx.Deadline(); ok {
		return max(time.Millisecond, time.Until(until)/2)
	}
	return p.timeout / 2
}

func triesElsewhere(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// drop lets go of an answer that nobody reads, if possible so that its connection
// can be used again.
func drop(res *http.Response) {
	if res != nil {
		_, _ = io.CopyN(io.Discard, res.Body, maxDropped)
		_ = res.Body.Close()
	}
}

// attempt asks one instance after the other until one can be connected to. Its
// answer, or that there is none, is noted of the instance and of the service.
func (r *remote) attempt(req *http.Request, p plan, t *tries, limit time.Duration) (*http.Response, error) {
	if !r.breaker.TryAcquirePermit() {
		r.refused[refusedByBreaker].Add(1)
		return nil, circuitbreaker.ErrOpen
	}
	partition := r.balancer.partitionOf(req)
	var unreached error
	for {
		i, err := r.balancer.choose(p.kind, partition, t.instances)
		if err != nil && unreached == nil && t.sent > 0 && errors.Is(err, errNone) {
			// Each has been asked: ask any of them again.
			t.instances = nil
			i, err = r.balancer.choose(p.kind, partition, nil)
		}
		switch {
		case err == nil:
		case unreached != nil:
			r.breaker.RecordFailure()
			return nil, &unanswered{unreached}
		default:
			r.noEvidence()
			return nil, err
		}
		t.instances = append(t.instances, i)
		res, err := r.ask(req, p, i, limit)
		if err != nil && dialled(err) && req.Context().Err() == nil {
			r.balancer.unreachable(i)
			unreached = err
			continue
		}
		t.sent++
		return res, r.note(req, i, res, err)
	}
}

// note notes what came of a request that was sent, and returns err or what is to
// be said in its place.
func (r *remote) note(req *http.Request, i *instance, res *http.Response, err error) error {
	switch {
	case err == nil:
		r.breaker.RecordSuccess()
		if res.StatusCode >= http.StatusInternalServerError {
			r.balancer.failed(i)
		} else {
			r.balancer.succeeded(i)
		}
		return nil
	case errors.Is(req.Context().Err(), context.Canceled), errors.Is(err, errClientBody):
		// The client's doing tells nothing of the service.
		r.noEvidence()
		return err
	}
	r.balancer.failed(i)
	r.breaker.RecordFailure()
	return &unanswered{err}
}

// noEvidence gives the breaker's permit back. A trial that tells nothing counts as
// failed: the breaker has no other way to end one, and waits for another second.
func (r *remote) noEvidence() {
	if r.breaker.IsHalfOpen() {
		r.breaker.RecordFailure()
	}
}

// dialled says that an error is of a connection that did not come about: nothing
// was sent.
func dialled(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "dial"
}

// ask sends a request to an instance. The instance's room is given back when there
// is no answer, or its body is closed. limit is how long the answer may take to begin;
// 0: as long as the request has.
func (r *remote) ask(req *http.Request, p plan, i *instance, limit time.Duration) (*http.Response, error) {
	send := sendLong
	if i.wire != nil && wire.Takes(req) {
		send = sendShort
	}
	res, stop, err := send(req, i, limit, timeLeft(req.Context(), p, limit))
	if err != nil {
		i.leave(p.kind)
		return nil, fmt.Errorf("ask %s: %w", i.host, err)
	}
	res.Body = &answerBody{ReadCloser: res.Body, of: req.Context(), balancer: r.balancer, i: i, kind: p.kind, stop: stop}
	return res, nil
}

// sendShort sends a request whose body is at hand.
func sendShort(req *http.Request, i *instance, limit time.Duration, timeLeft string) (*http.Response, func(), error) {
	var o wire.Options
	if timeLeft != "" {
		o.Name, o.Value = web.TimeoutHeader, timeLeft
	}
	if limit > 0 {
		o.Begin = time.Now().Add(limit)
	}
	res, err := i.wire.Send(req, o)
	if err != nil && errors.Is(err, os.ErrDeadlineExceeded) && !dialled(err) {
		err = errSlow
	}
	return res, func() {}, err
}

// sendLong sends any request. stop is to be called when its answer is at its end.
func sendLong(req *http.Request, i *instance, limit time.Duration, timeLeft string) (*http.Response, func(), error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	var timer *time.Timer
	if limit > 0 {
		timer = time.AfterFunc(limit, func() { cancel(errSlow) })
	}
	out := req.WithContext(ctx)
	out.Close = false
	out.Header = endToEnd(req.Header, timeLeft)
	up, err := aim(out, i)
	stop := func() {
		cancel(nil)
		if up != nil {
			_ = up.Close()
		}
	}
	if err != nil {
		stop()
		return nil, nil, err
	}
	res, err := i.transport.RoundTrip(out)
	if timer != nil && !timer.Stop() && err == nil {
		drop(res)
		err = errSlow
	}
	if err == nil {
		return res, stop, nil
	}
	if cause := context.Cause(ctx); cause != nil && !dialled(err) {
		err = cause
		if up != nil && !up.done.Load() {
			err = fmt.Errorf("%w: %w", errClientBody, err)
		}
	}
	stop()
	return nil, nil, err
}

// endToEnd is what goes to an instance of a header. Somebody else may be looking at
// the original.
func endToEnd(h http.Header, timeLeft string) http.Header {
	out := make(http.Header, len(h)+2)
	for name, values := range h {
		if !wire.OfConnection(name) {
			out[name] = values
		}
	}
	if out["User-Agent"] == nil {
		out["User-Agent"] = []string{""} // net/http would say its own
	}
	if timeLeft != "" {
		out[web.TimeoutHeader] = []string{timeLeft}
	}
	return out
}

// aim turns a request's copy to an instance. The transport closes a body even if
// it could not connect; that must not close the client's.
func aim(out *http.Request, to *instance) (*upload, error) {
	u := *out.URL
	u.Scheme, u.Host = to.scheme, to.host
	out.URL, out.Host = &u, ""
	switch {
	case out.Body == nil || out.ContentLength == 0:
		out.Body = nil
		return nil, nil
	case out.GetBody != nil:
		body, err := out.GetBody()
		out.Body = body
		return nil, err
	}
	up := &upload{Reader: out.Body}
	out.Body = up
	return up, nil
}

// timeLeft is how much time the service is told that it has, in milliseconds: a little
// less than we wait, so that it is the service that says what kept it. A stream is told
// nothing.
func timeLeft(ctx context.Context, p plan, limit time.Duration) string {
	if p.kind == streamed {
		return ""
	}
	if until, ok := ctx.Deadline(); ok {
		if left := time.Until(until); limit == 0 || left < limit {
			limit = left
		}
	}
	if limit -= limit / 16; limit <= 0 {
		return ""
	}
	return strconv.FormatInt(max(1, limit.Milliseconds()), 10)
}

// errClientBody says that time ran out while the client was still sending.
var errClientBody = errors.New("the body has not come whole")

// upload is a body that is passed on as it comes. Once it is closed it is not read any
// more: the transport may go on after the answer.
type upload struct {
	io.Reader
	done, closed atomic.Bool
}

func (u *upload) Read(p []byte) (int, error) {
	if u.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := u.Reader.Read(p)
	if err == io.EOF {
		u.done.Store(true)
	}
	return n, err
}

func (u *upload) Close() error {
	u.closed.Store(true)
	return nil
}

// answerBody is the body of an answer.
type answerBody struct {
	io.ReadCloser
	of       context.Context
	balancer *balancer
	i        *instance
	kind     kind
	stop     func()
	closed   bool
}

func (b *answerBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF && b.of.Err() == nil {
		b.balancer.failed(b.i)
	}
	return n, err
}

func (b *answerBody) Close() error {
	err := b.ReadCloser.Close()
	if !b.closed {
		b.closed = true
		b.stop()
		b.i.leave(b.kind)
	}
	return err
}

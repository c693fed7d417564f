package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// keysRetry is what a client is told when the keys of tokens cannot be read.
const keysRetry = time.Second

// serve is the way of every request: find its route, see who it is, see that they
// do not come too often, pass it on.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request) {
	start := g.now()
	identify(w, r)
	protect(w, r)
	checkTrace(r.Header)
	if err := checkForm(r); err != nil {
		g.refuse(w, r, "", start, err)
		return
	}
	rs := g.routes.find(r.URL)
	if rs == nil {
		g.refuse(w, r, "", start, problem.NotFound("there is nothing at this address"))
		return
	}
	if g.share(w, r, rs) {
		g.observe(rs.pattern, r.Method, http.StatusNoContent, start)
		return
	}
	rt := rs.route(r.Method)
	if rt == nil {
		w.Header().Set("Allow", rs.allow)
		g.refuse(w, r, rs.pattern, start, problem.MethodNotAllowed("this address takes "+rs.allow))
		return
	}
	// The address is that which the proxies tell, so it comes before what clients
	// say is dropped.
	var from netip.Addr
	if rt.who == anyone || !rt.inPlace || len(g.trusted) > 0 {
		from = g.clientAddr(r)
	}
	stripIdentity(r.Header)
	caller, err := g.admit(w, r, rt, from, start)
	if err != nil {
		g.refuse(w, r, rs.pattern, start, err)
		return
	}
	if rt.public {
		w.Header().Set("Cache-Control", public)
	}
	if r.Body != nil && r.Body != http.NoBody {
		// It also covers the answer, which a service gives within seconds.
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(web.BodyTimeout + timeoutOf[rt.class]))
		r.Body = http.MaxBytesReader(w, r.Body, rt.body)
	}
	if rt.inPlace {
		if len(g.trusted) > 0 && from.IsValid() {
			r.RemoteAddr = netip.AddrPortFrom(from, 0).String() // not the load balancer's
		}
		if err := g.pass(w, r, rt); err != nil {
			g.refuse(w, r, rs.pattern, start, err)
		}
		return
	}
	g.forward(w, r, rt, caller, from, start)
}

// admit decides whether a request may go on to its route.
func (g *Gateway) admit(w http.ResponseWriter, r *http.Request, rt *route, from netip.Addr, now time.Time) (token.Claims, error) {
	var caller token.Claims
	if rt.who != anyone {
		var err error
		if rt.stream {
			caller, err = g.verifyApart(w, r)
		} else {
			caller, err = g.verify(w, r)
		}
		if err != nil {
			return caller, err
		}
	}
	// Before the role: a refusal costs, too.
	if g.limits != nil && rt.class != free {
		if wait := g.limits.take(r.Context(), w.Header(), rt.class, caller.Subject, from, now); wait > 0 {
			return caller, problem.TooManyRequests(wait)
		}
	}
	if !rt.who.admits(caller) {
		return caller, problem.Forbidden("this needs the role " + string(rt.who))
	}
	if r.ContentLength > rt.body {
		return caller, problem.TooLarge("the body is larger than " + strconv.FormatInt(rt.body, 10) + " bytes")
	}
	return caller, nil
}

// verify says whose token a request brings.
func (g *Gateway) verify(w http.ResponseWriter, r *http.Request) (token.Claims, error) {
	raw, ok := bearer(r.Header.Get("Authorization"))
	if !ok {
		return token.Claims{}, problem.Unauthorized("send an access token as Authorization: Bearer <token>")
	}
	claims, err := g.verifier.Verify(r.Context(), raw)
	switch {
	case err == nil:
		return claims, nil
	case errors.Is(err, token.ErrInvalid):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		return token.Claims{}, problem.Unauthorized("the access token is not valid or has expired; sign in or refresh it")
	}
	if _, ok := errors.AsType[*problem.Problem](err); ok {
		return token.Claims{}, err
	}
	return token.Claims{}, errors.Join(problem.Unavailable("tokens cannot be checked right now", keysRetry), err)
}

// verifyApart is verify for a stream, which must not keep the stack that a signature
// takes.
func (g *Gateway) verifyApart(w http.ResponseWriter, r *http.Request) (claims token.Claims, err error) {
	onOwnStack(func() { claims, err = g.verify(w, r) })
	return claims, err
}

// bearer takes the token out of an Authorization header. The scheme's case does
// not matter (RFC 9110, 11.1).
func bearer(header string) (string, bool) {
	scheme, raw, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	raw = strings.TrimLeft(raw, " ")
	return raw, raw != ""
}

// forward serves what does not measure by itself: pages of our own, what is
// composed, and services elsewhere.
func (g *Gateway) forward(w http.ResponseWriter, r *http.Request, rt *route, caller token.Claims, from netip.Addr, start time.Time) {
	sw := &statusWriter{ResponseWriter: w}
	defer func() { g.observe(rt.path, r.Method, sw.status, start) }()
	if from.IsValid() {
		r.Header["X-Forwarded-For"] = []string{from.String()}
	}
	if caller.Subject != uuid.Nil {
		r = r.WithContext(token.NewContext(r.Context(), caller))
	}
	if err := g.pass(sw, r, rt); err != nil {
		problem.Write(sw, r, problem.Of(err))
	}
}

// pass has a route answer a request, in the time and the room that there is for it.
// With an error nothing has been answered yet.
func (g *Gateway) pass(w http.ResponseWriter, r *http.Request, rt *route) error {
	p, err := g.prepare(r, rt)
	if err != nil {
		return err
	}
	defer g.load.leave(rt)
	ctx := r.Context()
	if p.kind != streamed {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, p.timeout)
		defer cancel()
	}
	r.Trailer = nil // it is no header, and is to be none behind us
	rt.to.ServeHTTP(w, r.WithContext(withPlan(ctx, p)))
	return nil
}

// prepare takes room for a request, once its body is here if that is short: slow
// clients take no room.
func (g *Gateway) prepare(r *http.Request, rt *route) (plan, error) {
	var p plan
	if err := g.load.refuses(rt.class); err != nil {
		return p, err
	}
	p, err := rt.plan(r)
	if err != nil {
		return p, err
	}
	return p, g.load.enter(rt)
}

// refuse answers with the problem that err is. pattern is empty if no path
// matched.
func (g *Gateway) refuse(w http.ResponseWriter, r *http.Request, pattern string, start time.Time, err error) {
	p := problem.Of(err)
	if p.Status >= http.StatusInternalServerError {
		g.report(r.Context(), "request refused", r, err)
	}
	problem.Write(w, r, p)
	g.observe(pattern, r.Method, p.Status, start)
}

func (g *Gateway) report(ctx context.Context, what string, r *http.Request, err error) {
	g.log.LogAttrs(ctx, slog.LevelWarn, what,
		slog.String("method", r.Method), slog.String("path", r.URL.Path),
		slog.String("request_id", requestID(r)), slog.Any("error", err))
}

func (g *Gateway) observe(pattern, method string, status int, start time.Time) {
	if g.requests == nil {
		return
	}
	if status == 0 {
		status = http.StatusOK
	}
	g.requests.Observe(pattern, method, status, g.now().Sub(start))
}

// statusWriter notes the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	status int
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= http.StatusOK {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

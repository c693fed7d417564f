package gateway

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

const (
	// hstsPolicy has browsers come by TLS alone for a year. It is said where the
	// gateway itself speaks TLS.
	hstsPolicy = "max-age=31536000"
	// apiPolicy lets a browser that shows an answer by itself load and run nothing.
	apiPolicy = "default-src 'none'; frame-ancestors 'none'"
	// private is what nobody may keep: all that depends on who asks.
	private = "no-store"
	// public is what anybody may keep for a while, and then ask again with the tag.
	public = "public, max-age=300"
	// preflightAge is for how many seconds browsers remember what is allowed; the
	// most that any heeds.
	preflightAge = "7200"
	// corsHeaders are what pages of other origins may send, and corsExposed what they
	// may read.
	corsHeaders = "Authorization, Content-Type, If-Match, If-None-Match, Last-Event-ID, Traceparent, Tracestate, X-Request-Id"
	corsExposed = "Content-Disposition, ETag, Link, Location, Meet5-Partial, RateLimit, RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset, Retry-After, X-Request-Id"
)

// Header values, ready made.
var (
	nosniff    = []string{"nosniff"}
	noReferrer = []string{"no-referrer"}
	noLoading  = []string{apiPolicy}
	onlyTLS    = []string{hstsPolicy}
	notKept    = []string{private}
)

// protect says what holds for every answer, unless it says otherwise itself.
func protect(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["X-Content-Type-Options"] = nosniff
	h["Referrer-Policy"] = noReferrer
	h["Content-Security-Policy"] = noLoading
	h["Cache-Control"] = notKept
	if r.TLS != nil {
		h["Strict-Transport-Security"] = onlyTLS
	}
}

// saidByGateway are the headers of a service elsewhere that are not passed on.
var saidByGateway = []string{requestIDHeader, "X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy", "Strict-Transport-Security", "Server", "Access-Control-Allow-Origin"}

// checkOrigins reports the first that is no origin.
func checkOrigins(origins []string) error {
	for _, o := range origins {
		u, err := url.Parse(o)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || o != u.Scheme+"://"+strings.ToLower(u.Host) {
			return errors.Join(fmt.Errorf("%q is no origin; write it as https://app.example.org, without a slash at the end", o), err)
		}
	}
	return nil
}

// share lets pages of allowed origins read the answer. It says whether the request
// only asked what is allowed, and is answered.
func (g *Gateway) share(w http.ResponseWriter, r *http.Request, rs *resource) (answered bool) {
	if len(g.origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if !g.origins[origin] {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", corsExposed)
		return false
	}
	h.Set("Access-Control-Allow-Methods", rs.allow)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", preflightAge)
	w.WriteHeader(http.StatusNoContent)
	return true
}

// checkTrace drops what is no trace context of W3C's, so that nothing else is passed
// on as one.
func checkTrace(h http.Header) {
	if parents := h["Traceparent"]; len(parents) != 1 || !wellFormedTrace(parents[0]) {
		delete(h, "Traceparent")
		delete(h, "Tracestate")
	}
}

// wellFormedTrace is for version 00: 2, 32, 16 and 2 hexadecimal digits in lower
// case, of which neither the trace's nor the parent's are all zero.
func wellFormedTrace(s string) bool {
	const form = "00-00000000000000000000000000000000-0000000000000000-00"
	if len(s) != len(form) || s[:3] != form[:3] {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if dash := form[i] == '-'; dash != (c == '-') || !dash && (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return strings.Trim(s[3:35], "0") != "" && strings.Trim(s[36:52], "0") != ""
}

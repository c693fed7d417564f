package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/service/health"
	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/problem"
)

// pages are what the gateway serves by itself.
type pages struct {
	docs, live, metrics, openapi, ready http.Handler
}

func newPages(d *document, checks *health.Registry, registry *prometheus.Registry) (pages, error) {
	html, err := renderDocs(d)
	if err != nil {
		return pages{}, err
	}
	p := pages{
		docs:    static("text/html; charset=utf-8", html),
		openapi: static("application/json", d.json),
		live:    checks.Live(),
		ready:   checks.Ready(),
		metrics: http.HandlerFunc(noMetrics),
	}
	if registry != nil {
		p.metrics = metrics.Handler(registry)
	}
	return p, nil
}

func noMetrics(w http.ResponseWriter, r *http.Request) {
	problem.Write(w, r, problem.NotFound("this process keeps no figures"))
}

// docsPolicy lets a page use its own styles and nothing else: no script runs.
const docsPolicy = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// static serves the same bytes until the next start.
func static(contentType string, body []byte) http.Handler {
	tag := tagOf(body)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("ETag", tag)
		h.Set("Content-Security-Policy", docsPolicy)
		if noneMatches(r.Header.Values("If-None-Match"), tag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		h.Set("Content-Type", contentType)
		h.Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body)
	})
}

// tagOf is the strong entity tag of a content.
func tagOf(body []byte) string {
	sum := sha256.Sum256(body)
	return strconv.Quote(base64.RawURLEncoding.EncodeToString(sum[:12]))
}

// noneMatches says that a tag is among those that the client has, by the weak
// comparison (RFC 9110, 13.1.2): on the way to us, a strong one may have become weak.
func noneMatches(values []string, tag string) bool {
	for _, v := range values {
		for one := range strings.SplitSeq(v, ",") {
			if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
				return true
			}
		}
	}
	return false
}

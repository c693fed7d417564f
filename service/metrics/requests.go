package metrics

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Requests measures HTTP requests as meet5_http_request_duration_seconds, a
// histogram by service, route, method and status class.
type Requests struct {
	durations prometheus.ObserverVec
}

// NewRequests registers the histogram with r, or finds it there if another
// service of this process has registered it already. It panics if r holds
// something else of that name, as prometheus.MustRegister does.
func NewRequests(r prometheus.Registerer, service string) *Requests {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "meet5_http_request_duration_seconds",
		Help: "How long HTTP requests took, by route template.",
		// From a read model's answer to a password hash, and the 10 s after which
		// a drain gives up.
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
	}, []string{"service", "route", "method", "status"})
	if err := r.Register(h); err != nil {
		already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err)
		if !ok {
			panic(fmt.Errorf("register the request histogram: %w", err))
		}
		h = already.ExistingCollector.(*prometheus.HistogramVec)
	}
	return &Requests{durations: h.MustCurryWith(prometheus.Labels{"service": service})}
}

// Observe records one request. An empty route means that none matched.
func (m *Requests) Observe(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.durations.WithLabelValues(route, knownMethod(method), class(status)).Observe(took.Seconds())
}

// knownMethod keeps a client from making series with methods of its own.
func knownMethod(m string) string {
	switch m {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut,
		http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return m
	}
	return "other"
}

func class(status int) string {
	switch status / 100 {
	case 1:
		return "1xx"
	case 2:
		return "2xx"
	case 3:
		return "3xx"
	case 4:
		return "4xx"
	}
	return "5xx"
}

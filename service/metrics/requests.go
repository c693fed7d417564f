package metrics

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Requests measures HTTP requests as meet5_http_request_duration_seconds, a
// histogram by service, route, method and status class. Those that were refused
// although nothing is wrong with them, or with who sends them, are also counted one
// by one, as meet5_http_refused_total by service and status: a class does not tell
// them from a typing error.
type Requests struct {
	durations prometheus.ObserverVec
	// refused by their status: 401 (no token that is good), 429 (more than a rate
	// allows), 503 (overloaded, or something needed is out of reach).
	unauthorized, tooMany, unavailable prometheus.Counter
}

// NewRequests registers both with r, or finds them there if another service of this
// process has registered them already. It panics if r holds something else of their
// names, as prometheus.MustRegister does.
func NewRequests(r prometheus.Registerer, service string) *Requests {
	durations := register(r, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "meet5_http_request_duration_seconds",
		Help: "How long HTTP requests took, by route template.",
		// From a read model's answer to a password hash, and the 10 s after which
		// a drain gives up.
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
	}, []string{"service", "route", "method", "status"}))
	refused := register(r, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "meet5_http_refused_total",
		Help: "HTTP requests that were refused: 401 without a good token, 429 over a rate, 503 when overloaded or out of reach.",
	}, []string{"service", "status"}))
	// They are there from the start: an increase from nothing is none to Prometheus.
	return &Requests{
		durations:    durations.MustCurryWith(prometheus.Labels{"service": service}),
		unauthorized: refused.WithLabelValues(service, "401"),
		tooMany:      refused.WithLabelValues(service, "429"),
		unavailable:  refused.WithLabelValues(service, "503"),
	}
}

func register[T prometheus.Collector](r prometheus.Registerer, c T) T {
	err := r.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return already.ExistingCollector.(T)
	}
	if err != nil {
		panic(fmt.Errorf("register the figures of requests: %w", err))
	}
	return c
}

// Observe records one request. An empty route means that none matched.
func (m *Requests) Observe(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	m.durations.WithLabelValues(route, knownMethod(method), class(status)).Observe(took.Seconds())
	switch status {
	case http.StatusUnauthorized:
		m.unauthorized.Inc()
	case http.StatusTooManyRequests:
		m.tooMany.Inc()
	case http.StatusServiceUnavailable:
		m.unavailable.Inc()
	}
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

// Package metrics is what a process shows to Prometheus.
//
// Its promises:
//   - a process has one registry, handed in: nothing is registered globally;
//   - requests are labelled by route template, method and status class, so that
//     no client can make new time series.
package metrics

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// NewRegistry makes a process's registry, with the figures of the Go runtime
// and of the process in it.
func NewRegistry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// maxScrapes is how many scrapes are served at once: a scrape walks every
// series, so that a flood of them would cost more than what they measure.
const maxScrapes = 4

// Handler serves /metrics.
func Handler(r *prometheus.Registry) http.Handler {
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

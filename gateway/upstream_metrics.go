package gateway

import (
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"
)

// upstreamMetrics shows how the services stand, and what is shed.
type upstreamMetrics struct {
	g *Gateway
	// In the order in which they are shown.
	shed, inFlight                              *prometheus.Desc
	instances, underWay, efficiency, ejections  *prometheus.Desc
	retries, budget, breaker, opened, refusedBy *prometheus.Desc
	lookups                                     *prometheus.Desc
}

func newUpstreamMetrics(g *Gateway) *upstreamMetrics {
	d := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("meet5_gateway_"+name, help, labels, nil)
	}
	return &upstreamMetrics{
		g:          g,
		shed:       d("shed_total", "Requests refused since too much was under way.", "class"),
		inFlight:   d("in_flight", "Requests under way, streams apart."),
		instances:  d("instances", "Instances of a service.", "upstream", "state"),
		underWay:   d("instance_in_flight", "Requests under way at an instance, streams among them.", "upstream", "instance"),
		efficiency: d("balance_efficiency", "1 - (max - min) / mean of the requests that instances got by load within the last minute.", "upstream"),
		ejections:  d("ejections_total", "Instances that were ejected.", "upstream", "reason"),
		retries:    d("retries_total", "Retries that were sent, and those that the budget did not allow.", "upstream", "outcome"),
		budget:     d("retry_budget", "Retries that the budget has left.", "upstream"),
		breaker:    d("breaker_state", "1 for the state that the breaker is in.", "upstream", "state"),
		opened:     d("breaker_opened_total", "How often the breaker opened.", "upstream"),
		refusedBy:  d("refused_total", "Requests that a service, or all its instances, did not get.", "upstream", "by"),
		lookups:    d("lookups_total", "Lookups of instances in DNS.", "upstream", "outcome"),
	}
}

// Describe implements prometheus.Collector. Nothing is described beforehand: a
// gateway without services elsewhere has fewer figures.
func (m *upstreamMetrics) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (m *upstreamMetrics) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(m.inFlight, float64(m.g.load.inFlight.Load()))
	for c := auth; c < classes; c++ {
		counter(m.shed, m.g.load.shed[c].Load(), classNames[c])
	}
	for _, u := range m.g.up.named() {
		if l, ok := u.handler.(*local); ok {
			counter(m.refusedBy, l.refused.Load(), u.name, refusalNames[refusedByBulkhead])
			continue
		}
		r := u.handler.(*remote) // there are no others
		s := r.standing()
		gauge(m.instances, float64(s.Instances-s.Ejected-s.Unreachable), u.name, "sound")
		gauge(m.instances, float64(s.Ejected), u.name, "ejected")
		gauge(m.instances, float64(s.Unreachable), u.name, "unreachable")
		gauge(m.instances, float64(s.Draining), u.name, "draining")
		for _, i := range *r.balancer.set.Load() {
			var n int64
			for k := range i.load {
				n += i.load[k].Load()
			}
			gauge(m.underWay, float64(n), u.name, i.host)
		}
		gauge(m.efficiency, r.balancer.efficiency(), u.name)
		for why := range ejectionReasons {
			counter(m.ejections, r.balancer.ejected[why].Load(), u.name, ejectionReasonNames[why])
		}
		counter(m.retries, r.budget.spent.Load(), u.name, "sent")
		counter(m.retries, r.budget.denied.Load(), u.name, "denied")
		gauge(m.budget, r.budget.Left(), u.name)
		for _, state := range []circuitbreaker.State{circuitbreaker.ClosedState, circuitbreaker.OpenState, circuitbreaker.HalfOpenState} {
			is := 0.
			if s.Breaker == state.String() {
				is = 1
			}
			gauge(m.breaker, is, u.name, state.String())
		}
		counter(m.opened, r.opened.Load(), u.name)
		for by := range refusals {
			counter(m.refusedBy, r.refused[by].Load(), u.name, refusalNames[by])
		}
		if !r.balancer.fixed {
			counter(m.lookups, r.balancer.lookups[0].Load(), u.name, "answered")
			counter(m.lookups, r.balancer.lookups[1].Load(), u.name, "failed")
		}
	}
}

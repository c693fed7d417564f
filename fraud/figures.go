package fraud

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/fraud/engine"
)

// figures is what the service shows of its rules. Rules are few and named by us,
// so that a series each is bounded.
type figures struct {
	hits  *prometheus.CounterVec
	flags *prometheus.CounterVec
	// event is how long all rules take for an event, of every sampled one; raise how
	// long it takes to raise a flag.
	event prometheus.Histogram
	raise *prometheus.HistogramVec
}

// sampleEvery is of how many events one is timed: to look at the clock takes as long as
// to evaluate a rule.
const sampleEvery = 1024

// newFigures registers the counters with r, unless that is nil.
func newFigures(r *prometheus.Registry) *figures {
	f := &figures{
		hits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meet5_fraud_rule_hits_total",
			Help: "Hits of a rule since this process started, those of history included.",
		}, []string{"rule", "mode"}),
		flags: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "meet5_fraud_flags_raised_total",
			Help: "Flags that this process has raised.",
		}, []string{"rule"}),
		event: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "meet5_fraud_event_seconds",
			Help:    "How long all rules together take for an event; one of 1,024 is timed.",
			Buckets: prometheus.ExponentialBuckets(250e-9, 4, 10),
		}),
		raise: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "meet5_fraud_raise_seconds",
			Help:    "How long it takes from a hit of a live rule until its flag is durable, or is found to be there.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8),
		}, []string{"rule"}),
	}
	if r != nil {
		f.hits, f.flags = registered(r, f.hits), registered(r, f.flags)
		f.event, f.raise = registered(r, f.event), registered(r, f.raise)
	}
	return f
}

// registered registers a collector, or finds the one that another service of this
// process has registered.
func registered[T prometheus.Collector](r *prometheus.Registry, c T) T {
	err := r.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return already.ExistingCollector.(T)
	}
	if err != nil {
		panic(fmt.Errorf("register the rules' figures: %w", err)) // as prometheus.MustRegister does
	}
	return c
}

func (f *figures) hit(r *engine.Rule) { f.hits.WithLabelValues(r.ID, string(r.Mode)).Inc() }

func (f *figures) raised(r *engine.Rule) { f.flags.WithLabelValues(r.ID).Inc() }

// What is told of each rule at a scrape.
var (
	evaluationsDesc = prometheus.NewDesc("meet5_fraud_rule_evaluations_total",
		"Events that a rule was asked about, those of history included.", []string{"rule"}, nil)
	costDesc = prometheus.NewDesc("meet5_fraud_rule_event_seconds",
		"What a rule takes for an event, measured on made-up ones when it was loaded.", []string{"rule"}, nil)
	noisyDesc = prometheus.NewDesc("meet5_fraud_rule_noisy",
		"How many reasons there are to look at a rule: it is slow, it hits too many.", []string{"rule"}, nil)
	stateDesc = prometheus.NewDesc("meet5_fraud_rule_flags",
		"Flags of a rule, by state.", []string{"rule", "state"}, nil)
	cutsDesc = prometheus.NewDesc("meet5_fraud_cuts",
		"Cuts on record, which rules that need the one order of all partitions go by.", nil, nil)
	cutsDoneDesc = prometheus.NewDesc("meet5_fraud_cuts_worked_through",
		"Cuts up to which those rules' flags are raised.", nil, nil)
)

// ruleCollector tells how rules are doing.
type ruleCollector struct{ *Service }

// collectRules has the registry tell how rules are doing.
func (s *Service) collectRules(r *prometheus.Registry) error {
	err := r.Register(ruleCollector{s})
	if _, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return nil // another service of this process tells it
	}
	return err
}

// Describe implements prometheus.Collector.
func (ruleCollector) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{evaluationsDesc, costDesc, noisyDesc, stateDesc, cutsDesc, cutsDoneDesc} {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (c ruleCollector) Collect(to chan<- prometheus.Metric) {
	if p := c.raiser.program.Load(); p != nil {
		for id, t := range p.tallies {
			to <- prometheus.MustNewConstMetric(evaluationsDesc, prometheus.CounterValue, float64(t.evaluations.Load()), id)
			to <- prometheus.MustNewConstMetric(noisyDesc, prometheus.GaugeValue, float64(len(t.noise())), id)
			if took := t.cost.Load(); took > 0 {
				to <- prometheus.MustNewConstMetric(costDesc, prometheus.GaugeValue, float64(took)/1e9, id)
			}
		}
	}
	if at, _ := c.ordered.stands(); !at.idle {
		tip, _ := c.ordered.tip.Last()
		to <- prometheus.MustNewConstMetric(cutsDesc, prometheus.GaugeValue, float64(tip.Number))
		to <- prometheus.MustNewConstMetric(cutsDoneDesc, prometheus.GaugeValue, float64(at.cut))
	}
	known, _ := c.rules.All()
	for _, k := range known {
		for state, n := range c.board.Counts(k.ID) {
			to <- prometheus.MustNewConstMetric(stateDesc, prometheus.GaugeValue, float64(n), k.ID, string(state))
		}
	}
}

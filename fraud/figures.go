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
}

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
	}
	if r != nil {
		f.hits, f.flags = registered(r, f.hits), registered(r, f.flags)
	}
	return f
}

// registered registers a counter, or finds the one that another service of this
// process has registered.
func registered(r *prometheus.Registry, c *prometheus.CounterVec) *prometheus.CounterVec {
	err := r.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		return already.ExistingCollector.(*prometheus.CounterVec)
	}
	if err != nil {
		panic(fmt.Errorf("register the rules' counters: %w", err)) // as prometheus.MustRegister does
	}
	return c
}

func (f *figures) hit(r *engine.Rule) { f.hits.WithLabelValues(r.ID, string(r.Mode)).Inc() }

func (f *figures) raised(r *engine.Rule) { f.flags.WithLabelValues(r.ID).Inc() }

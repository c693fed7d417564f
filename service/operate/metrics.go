package operate

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events/bus"
	"github.com/meet5/backend/events/subscription"
)

// Register shows the subscriptions to Prometheus, by service, group, log and
// partition: meet5_subscription_head, _position, _lag_events, _lag_seconds,
// _events_per_second, _heartbeat_timestamp_seconds, _failures, _parked and
// _stalled.
func (s Source) Register(r prometheus.Registerer, service string) error {
	return r.Register(&collector{source: s, service: service})
}

// collector describes nothing beforehand: several services of a process have the
// same figures, told apart by their labels.
type collector struct {
	source  Source
	service string
}

// figures are what is shown of a partition, sorted by name.
var figures = []struct {
	name, help string
	of         func(s *subscription.Status) float64
}{
	{"events_per_second", "Events handled, over about the last ten seconds.", func(s *subscription.Status) float64 { return s.Rate }},
	{"failures", "Calls that failed in a row.", func(s *subscription.Status) float64 { return float64(s.Failures) }},
	{"head", "The last event known to exist.", func(s *subscription.Status) float64 { return float64(s.Head) }},
	{"heartbeat_timestamp_seconds", "When the subscription last looked or worked; 0 if it has not yet.", func(s *subscription.Status) float64 {
		return max(0, float64(s.Heartbeat.UnixMilli())/1000)
	}},
	{"lag_events", "Events between position and head.", func(s *subscription.Status) float64 { return float64(s.Lag) }},
	{"lag_seconds", "Age of the first event that is not worked through.", func(s *subscription.Status) float64 { return s.LagSeconds }},
	{"parked", "Events that are parked.", func(s *subscription.Status) float64 { return float64(s.Parked) }},
	{"position", "The last event worked through.", func(s *subscription.Status) float64 { return float64(s.Position) }},
	{"stalled", "1 if it has stood still behind its head for 6 seconds.", func(s *subscription.Status) float64 {
		if s.Stalled {
			return 1
		}
		return 0
	}},
}

var labels = []string{"service", "group", "log", "partition"}

// Describe implements prometheus.Collector.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	all := c.source.Statuses()
	for _, f := range figures {
		desc := prometheus.NewDesc("meet5_subscription_"+f.name, f.help, labels, nil)
		for i := range all {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, f.of(&all[i]),
				c.service, all[i].Group, all[i].Log, strconv.Itoa(all[i].Partition))
		}
	}
}

// Bus is what a process's traffic on the bus is counted by.
type Bus struct {
	Feed *bus.Feed
	// Unrouted counts messages that no queue took, Rejected those that were no
	// commits. Nil where there is no broker.
	Unrouted, Rejected func() uint64
}

// Register shows meet5_bus_commits_total, by outcome: published, dropped (the feed
// was full), failed (the bus did not take them), unrouted (nobody follows), and
// rejected (what came was no commit). Whatever was not published is read in the log.
func (b Bus) Register(r prometheus.Registerer) error { return r.Register(busCollector{b}) }

type busCollector struct{ Bus }

var busCommits = prometheus.NewDesc("meet5_bus_commits_total", "Commits on the bus, by what became of them.", []string{"outcome"}, nil)

// Describe implements prometheus.Collector.
func (busCollector) Describe(out chan<- *prometheus.Desc) { out <- busCommits }

// Collect implements prometheus.Collector.
func (c busCollector) Collect(out chan<- prometheus.Metric) {
	send := func(outcome string, n uint64) {
		out <- prometheus.MustNewConstMetric(busCommits, prometheus.CounterValue, float64(n), outcome)
	}
	stats := c.Feed.Stats()
	send("dropped", stats.Dropped)
	send("failed", stats.Failed)
	send("published", stats.Published)
	if c.Unrouted != nil {
		send("unrouted", c.Unrouted())
	}
	if c.Rejected != nil {
		send("rejected", c.Rejected())
	}
}

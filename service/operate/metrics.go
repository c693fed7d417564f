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

// RegisterFeed shows what became of the commits that a process announced:
// meet5_feed_commits_total by outcome.
func RegisterFeed(r prometheus.Registerer, feed *bus.Feed) error {
	return r.Register(&feedCollector{feed})
}

type feedCollector struct{ feed *bus.Feed }

var feedCommits = []string{"published", "dropped", "failed"}

func (c *feedCollector) desc() *prometheus.Desc {
	return prometheus.NewDesc("meet5_feed_commits_total",
		"Commits offered to the bus, by what became of them. What was not published is read in the log.", []string{"outcome"}, nil)
}

// Describe implements prometheus.Collector.
func (c *feedCollector) Describe(out chan<- *prometheus.Desc) { out <- c.desc() }

// Collect implements prometheus.Collector.
func (c *feedCollector) Collect(out chan<- prometheus.Metric) {
	stats := c.feed.Stats()
	for i, n := range []uint64{stats.Published, stats.Dropped, stats.Failed} {
		out <- prometheus.MustNewConstMetric(c.desc(), prometheus.CounterValue, float64(n), feedCommits[i])
	}
}

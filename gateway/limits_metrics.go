package gateway

import "github.com/prometheus/client_golang/prometheus"

var (
	bucketsDesc  = prometheus.NewDesc("meet5_rates_buckets", "Buckets of rates that this gateway keeps.", nil, nil)
	togetherDesc = prometheus.NewDesc("meet5_rates_shared", "1 while rates are counted together with other gateways, 0 while the server for that is away. Missing without one.", nil, nil)
	countedDesc  = prometheus.NewDesc("meet5_rates_counted_total", "Requests by where their rate was counted.", []string{"where"}, nil)
)

// Describe implements prometheus.Collector.
func (l *limiter) Describe(c chan<- *prometheus.Desc) {
	c <- bucketsDesc
	c <- togetherDesc
	c <- countedDesc
}

// Collect implements prometheus.Collector.
func (l *limiter) Collect(c chan<- prometheus.Metric) {
	c <- prometheus.MustNewConstMetric(bucketsDesc, prometheus.GaugeValue, float64(l.size()))
	if l.shared == nil {
		return
	}
	together := 0.0
	if l.shared.together() {
		together = 1
	}
	c <- prometheus.MustNewConstMetric(togetherDesc, prometheus.GaugeValue, together)
	c <- prometheus.MustNewConstMetric(countedDesc, prometheus.CounterValue, float64(l.shared.shared.Load()), "shared")
	c <- prometheus.MustNewConstMetric(countedDesc, prometheus.CounterValue, float64(l.shared.local.Load()), "local")
}

package notices

import "github.com/prometheus/client_golang/prometheus"

// Register adds the hub's figures.
func (h *Hub) Register(r prometheus.Registerer) error { return r.Register(figures{h}) }

// figures is a prometheus.Collector.
type figures struct{ hub *Hub }

var (
	openDesc = prometheus.NewDesc("meet5_notices_streams", "Streams of events that are open.", nil, nil)
	toldDesc = prometheus.NewDesc("meet5_notices_told_total", "Notices handed to streams.", nil, nil)
	endsDesc = prometheus.NewDesc("meet5_notices_streams_total",
		"Streams by what became of them: refused, cut since the reader was slow, resumed, of these reread from the log, and reset since they could not be resumed.",
		[]string{"what"}, nil)
)

// Describe implements prometheus.Collector.
func (f figures) Describe(c chan<- *prometheus.Desc) { prometheus.DescribeByCollect(f, c) }

// Collect implements prometheus.Collector.
func (f figures) Collect(c chan<- prometheus.Metric) {
	s := f.hub.Stats()
	c <- prometheus.MustNewConstMetric(openDesc, prometheus.GaugeValue, float64(s.Open))
	c <- prometheus.MustNewConstMetric(toldDesc, prometheus.CounterValue, float64(s.Told))
	for what, n := range map[string]uint64{"refused": s.Refused, "cut": s.Cut, "resumed": s.Resumed, "reread": s.Reread, "reset": s.Reset} {
		c <- prometheus.MustNewConstMetric(endsDesc, prometheus.CounterValue, float64(n), what)
	}
}

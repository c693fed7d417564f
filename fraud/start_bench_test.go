package fraud_test

import (
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/rulebook"
	"github.com/meet5/backend/fraud/side/snapshotdir"
)

// BenchmarkStart is a start of the service after 500,000 events, from all of history and
// from snapshots, until it has caught up; with the rules of the rule book that need no
// order of all partitions. Of the snapshots it says how large they are together, and how
// long a partition waits for its own.
func BenchmarkStart(b *testing.B) {
	const users, each, atOnce = 5000, 100, 16
	w := newWorld(b)
	rules, err := rulebook.Rules()
	if err != nil {
		b.Fatal(err)
	}
	rules = slices.DeleteFunc(rules, rule.Rule.Ordered)
	var all sync.WaitGroup
	for part := range atOnce {
		all.Go(func() {
			for n := part; n < users; n += atOnce {
				evs := make([]events.Event, each)
				for i := range evs {
					kind := rule.Visit
					if i%4 == 0 {
						kind = rule.Like
					}
					evs[i] = act{actor: user(n), joined: start, kind: kind, target: person(n + i*i), at: start.Add(time.Duration(i) * time.Minute)}.event()
				}
				if _, err := w.activity.Append(b.Context(), evs...); err != nil {
					b.Error(err)
				}
			}
		})
	}
	all.Wait()
	dir := b.TempDir()
	w.snapshots, w.metrics = snapshotdir.Open(dir), prometheus.NewRegistry()
	s := w.run(rules...)
	taken := s.takeSnapshots()
	s.stop()
	if taken != events.ActivityPartitions {
		b.Fatalf("%d snapshots were taken", taken)
	}
	held := w.meanSeconds("meet5_fraud_snapshot_held_seconds")
	size := 0.0
	for _, file := range snapshotFiles(b, dir) {
		info, err := os.Stat(file)
		if err != nil {
			b.Fatal(err)
		}
		size += float64(info.Size())
	}
	w.metrics = nil
	starts := func(b *testing.B, from string) {
		for b.Loop() {
			s := w.run(rules...)
			b.StopTimer()
			if n := s.started(from); n != events.ActivityPartitions {
				b.Fatalf("%d partitions started from %s", n, from)
			}
			s.stop()
			b.StartTimer()
		}
		b.ReportMetric(float64(b.N)*users*each/b.Elapsed().Seconds(), "events/s")
	}
	b.Run("from snapshots", func(b *testing.B) {
		starts(b, "snapshot")
		b.ReportMetric(size/1e6, "MB")
		b.ReportMetric(held*1e3, "held-ms")
	})
	w.snapshots = nil
	b.Run("from history", func(b *testing.B) { starts(b, "none") })
}

// meanSeconds is the mean of a histogram.
func (w *world) meanSeconds(name string) float64 {
	w.Helper()
	list, err := w.metrics.Gather()
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range list {
		if h := f.GetMetric(); f.GetName() == name && len(h) == 1 {
			return h[0].GetHistogram().GetSampleSum() / float64(h[0].GetHistogram().GetSampleCount())
		}
	}
	w.Fatalf("there is no %s", name)
	return 0
}

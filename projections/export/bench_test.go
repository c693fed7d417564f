package export_test

import (
	"encoding/binary"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/log/boltlog"
	"github.com/meet5/backend/events/replay"
	"github.com/meet5/backend/projections/export"
)

// embedded is a log of so many visits of ten thousand members, three seconds apart.
func embedded(tb testing.TB, n int) log.Reader {
	tb.Helper()
	db, err := boltlog.Open(filepath.Join(tb.TempDir(), "log.db"))
	if err != nil {
		tb.Fatal(err)
	}
	store, err := db.Log(events.ActivityLog, events.ActivityPartitions)
	if err != nil {
		tb.Fatal(err)
	}
	l := log.New(store, log.Options{})
	tb.Cleanup(func() {
		l.Close()
		if err := db.Close(); err != nil {
			tb.Error(err)
		}
	})
	pending := make([]*log.Pending, 0, 4096)
	wait := func() {
		for _, p := range pending {
			if _, err := p.Wait(tb.Context()); err != nil {
				tb.Fatal(err)
			}
		}
		pending = pending[:0]
	}
	for i := range n {
		p, err := l.Submit(visit(i))
		if err != nil {
			tb.Fatal(err)
		}
		if pending = append(pending, p); len(pending) == cap(pending) {
			wait()
		}
	}
	wait()
	return store
}

func visit(i int) events.Event {
	at := time.Unix(1_700_000_000, 0).Add(time.Duration(i) * 3 * time.Second)
	return events.Event{
		ID: scattered(i, 1), Type: events.ProfileVisited, Stream: scattered(i*7919%10_000, 2), OccurredAt: at,
		Data: events.Activity{Target: scattered(i*104_729%10_000, 2), JoinedAt: time.Unix(1_600_000_000, 0)}.AppendJSON(nil),
	}
}

// scattered is an ID that says nothing, so that it compresses no better than a true one.
func scattered(n int, space byte) (u uuid.UUID) {
	return uuid.NewSHA1(uuid.UUID{space}, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// counter counts the bytes that go through it.
type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// none writes nothing: what reading alone comes to.
type none struct{}

func (none) Write(events.Recorded) error { return nil }
func (none) Close() error                { return nil }

// BenchmarkExport writes a million events of an embedded log in each format, beside
// the same reading that only counts them. MiB-live is what is kept meanwhile, at most.
func BenchmarkExport(b *testing.B) {
	const total = 1_000_000
	r := embedded(b, total)
	var size counter
	type side struct {
		name   string
		writer func() export.Writer
	}
	sides := []side{{"count", func() export.Writer { return none{} }}}
	for _, f := range export.Formats() {
		sides = append(sides, side{f.String(), func() export.Writer { return export.NewWriter(f, &size, r.Name()) }})
	}
	for _, s := range sides {
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				size = 0
				if n := write(b, r, s.writer(), nil); n != total {
					b.Fatalf("%d events", n)
				}
			}
			b.ReportMetric(float64(total)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(float64(size)/total, "B/event")
			least, most := live(), uint64(0)
			write(b, r, s.writer(), func(n int) {
				if n%50_000 == 0 {
					now := live()
					most = max(most, now-min(now, least))
				}
			})
			b.ReportMetric(float64(most)/(1<<20), "MiB-live")
		})
	}
}

func write(tb testing.TB, r log.Reader, w export.Writer, each func(n int)) (n int) {
	for e, err := range replay.Events(tb.Context(), r, replay.Filter{}) {
		if err != nil {
			tb.Fatal(err)
		}
		if err := w.Write(e); err != nil {
			tb.Fatal(err)
		}
		if n++; each != nil {
			each(n)
		}
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return n
}

// live is the memory that is in use.
func live() uint64 {
	runtime.GC()
	runtime.GC() // what pools hold goes at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

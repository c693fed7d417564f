package bench

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"github.com/meet5/backend/events/log"
)

// readEvents is how long the log is that is read in full.
const readEvents = 1_000_000

// readEmbedded reads a whole log in a file and counts, with one processor for all
// that the program does, in events a second. Every commit is checked and every event
// in it found, as for any reader.
var readEmbedded = Work{
	Name:    "read-embedded",
	Ours:    "full read of a log of 1,000,000 events in a file, count only, on one core",
	Figures: []Figure{{Unit: "events/s", Target: Target{AtLeast: 1_000_000}}},
	open: func(ctx context.Context, s *site) (turn, error) {
		dir, err := s.folder()
		if err != nil {
			return nil, err
		}
		store, err := openBolt(s, filepath.Join(dir, "log.db"))
		if err != nil {
			return nil, err
		}
		want, err := fill(ctx, store, s.scaled(readEvents, partitions), repeated(1))
		if err != nil {
			return nil, err
		}
		return alternate(func(ctx context.Context) (float64, error) {
			defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
			return clocked(func() (n int, err error) {
				for until := time.Now().Add(s.For); n == 0 || time.Now().Before(until); {
					for p := range partitions {
						read, err := count(ctx, store, p, 0)
						if n += read; err != nil {
							return n, err
						}
					}
				}
				if n%want != 0 {
					return n, fmt.Errorf("read %d events of a log of %d", n, want)
				}
				return n, nil
			})
		}, nil), nil
	},
}

// count reads a partition after a sequence to its end.
func count(ctx context.Context, r log.Reader, partition int, after uint64) (n int, err error) {
	for c, err := range r.Read(ctx, partition, after) {
		if err != nil {
			return n, err
		}
		n += c.Count
	}
	return n, nil
}

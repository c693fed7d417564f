package fraud

import (
	"bytes"
	"context"
	"time"
)

// Bounds of snapshots.
const (
	SnapshotEvery = snapshotEvery
	SnapshotWorth = snapshotWorth
)

// TakeSnapshots takes a snapshot of each partition that rests, due or not, and says of
// how many.
func (s *Service) TakeSnapshots(ctx context.Context) (taken int, err error) {
	k := s.raiser.snapshots
	for _, l := range s.raiser.lanes {
		before := k.last(l).sequence
		if err := k.take(ctx, l); err != nil {
			return taken, err
		}
		if k.last(l).sequence > before {
			taken++
		}
	}
	return taken, nil
}

// Origins says what each partition has started from.
func (s *Service) Origins() (list []string) {
	k := s.raiser.snapshots
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, o := range k.origins {
		list = append(list, string(o))
	}
	return list
}

// LimitSnapshots bounds snapshots from now on, in bytes.
func (s *Service) LimitSnapshots(most int) { s.raiser.snapshots.most = most }

// LoseEngine has a partition panic while it counts, until it is told to find its engine
// again.
func (s *Service) LoseEngine(partition int) (find func()) {
	l := s.raiser.lanes[partition]
	l.mu.Lock()
	defer l.mu.Unlock()
	lost := l.crew[0].engine
	l.crew[0].engine = nil
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.crew[0].engine = lost
	}
}

// IsSnapshotDue says whether one is, of a partition whose last was taken so long ago and
// failed so long ago, after so many more events.
func IsSnapshotDue(age, failed time.Duration, more uint64) bool {
	now := time.Now()
	return shot{sequence: 7, at: now.Add(-age), failed: now.Add(-failed)}.due(7+more, now)
}

// Pages writes into memory, of which there is so much, and returns what came of it.
func Pages(most int, writes ...[]byte) ([]byte, error) {
	p := pages{most: most}
	for _, b := range writes {
		if _, err := p.Write(b); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	err := p.writeTo(&out)
	return out.Bytes(), err
}

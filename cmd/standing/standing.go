// Package standing tells how the durable subscriptions of an installation stand,
// from what is kept of them: the ledgers, and the logs that they follow. It asks no
// running process, so it tells of those that do not run, too.
package standing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// Row is how one group stands in one partition.
type Row struct {
	Service string `json:"service"`
	subscription.Place
	// Position is the last event worked through, Head the log's last, and Lag how
	// many lie between.
	Position uint64 `json:"position"`
	Head     uint64 `json:"head"`
	Lag      uint64 `json:"lag"`
	// LagSeconds is how long ago the first event was recorded that is not worked
	// through.
	LagSeconds float64 `json:"lag_seconds"`
	// Rate is how many events a second were worked through when it was last heard
	// of, at Heartbeat; that is zero if it never was.
	Rate      float64   `json:"rate"`
	Heartbeat time.Time `json:"heartbeat,omitzero"`
	Parked    int       `json:"parked"`
	Failure   string    `json:"failure,omitempty"`
}

// Log is how far a log goes.
type Log struct {
	Name   string   `json:"name"`
	Heads  []uint64 `json:"heads"`  // by partition
	Events uint64   `json:"events"` // in all
}

// Logs are the heads of the logs.
func Logs(ctx context.Context, logs []log.Reader) ([]Log, error) {
	out := make([]Log, len(logs))
	for i, l := range logs {
		out[i] = Log{Name: l.Name(), Heads: make([]uint64, l.Partitions())}
		for p := range out[i].Heads {
			head, err := l.Head(ctx, p)
			if err != nil {
				return nil, fmt.Errorf("read the head of %s/%d: %w", l.Name(), p, err)
			}
			out[i].Heads[p] = head
			out[i].Events += head
		}
	}
	return out, nil
}

// Rows are the partitions of every group that the ledgers know, sorted by service,
// group, log and partition: also those in which a group has not begun. Ledgers are
// by the name of their service.
func Rows(ctx context.Context, ledgers map[string]subscription.Ledger, logs []log.Reader, now time.Time) ([]Row, error) {
	heads, err := Logs(ctx, logs)
	if err != nil {
		return nil, err
	}
	var out []Row
	for _, service := range slices.Sorted(maps.Keys(ledgers)) {
		rows, err := rowsOf(ctx, ledgers[service], heads)
		if err != nil {
			return nil, fmt.Errorf("the ledger of the %s service: %w", service, err)
		}
		for i := range rows {
			r := &rows[i]
			r.Service = service
			if r.Lag == 0 {
				continue
			}
			if r.LagSeconds, err = age(ctx, logs, *r, now); err != nil {
				return nil, err
			}
		}
		out = append(out, rows...)
	}
	return out, nil
}

// rowsOf are the rows of one ledger.
func rowsOf(ctx context.Context, l subscription.Ledger, heads []Log) ([]Row, error) {
	checkpoints, err := l.List(ctx)
	if err != nil {
		return nil, err
	}
	parked, err := l.Parked(ctx, subscription.Place{})
	if err != nil {
		return nil, err
	}
	rows := make(map[subscription.Place]*Row)
	for _, c := range checkpoints {
		fill(rows, c.Place, heads)
		r := rows[c.Place]
		if r == nil {
			continue // of a log that there is not
		}
		r.Position, r.Rate, r.Heartbeat, r.Failure = c.Sequence, c.Rate, c.At, c.Failure
		r.Head = max(r.Head, r.Position)
		r.Lag = r.Head - r.Position
	}
	for _, p := range parked {
		if r := rows[p.Place]; r != nil {
			r.Parked++
		}
	}
	out := make([]Row, 0, len(rows))
	for _, r := range rows {
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Log, b.Log), cmp.Compare(a.Partition, b.Partition))
	})
	return out, nil
}

// fill makes a row for each partition of a log that a group follows.
func fill(rows map[subscription.Place]*Row, at subscription.Place, heads []Log) {
	for _, l := range heads {
		if l.Name != at.Log || rows[at] != nil {
			continue
		}
		for p, head := range l.Heads {
			at.Partition = p
			rows[at] = &Row{Place: at, Head: head, Lag: head}
		}
	}
}

// age is how long ago the first event was recorded that is not worked through.
func age(ctx context.Context, logs []log.Reader, r Row, now time.Time) (seconds float64, err error) {
	for _, l := range logs {
		if l.Name() != r.Log {
			continue
		}
		e, err := log.Get(ctx, l, events.Position{Partition: r.Partition, Sequence: r.Position + 1})
		if errors.Is(err, log.ErrNotFound) {
			return 0, nil
		}
		if err != nil {
			return 0, fmt.Errorf("read the first event that %v has not worked through: %w", r.Place, err)
		}
		return max(0, now.Sub(e.RecordedAt).Seconds()), nil
	}
	return 0, nil
}

// Sum is a group's partitions of one log, taken together.
type Sum struct {
	Row
	Partitions int `json:"partitions"`
}

// Sums adds rows up: numbers add up, the greatest lag in seconds counts, the
// latest heartbeat, and the first failure. Partition has no meaning there.
func Sums(rows []Row) []Sum {
	var out []Sum
	for _, r := range rows {
		at := len(out) - 1
		if at < 0 || out[at].Service != r.Service || out[at].Group != r.Group || out[at].Log != r.Log {
			out = append(out, Sum{Row: r, Partitions: 1})
			continue
		}
		g := &out[at]
		g.Partitions++
		g.Position += r.Position
		g.Head += r.Head
		g.Lag += r.Lag
		g.Rate += r.Rate
		g.Parked += r.Parked
		g.LagSeconds = max(g.LagSeconds, r.LagSeconds)
		if r.Heartbeat.After(g.Heartbeat) {
			g.Heartbeat = r.Heartbeat
		}
		g.Failure = cmp.Or(g.Failure, r.Failure)
	}
	return out
}

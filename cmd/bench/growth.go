package bench

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

const (
	// longLog and shortLog are how many events the two logs hold that are compared.
	longLog, shortLog = 10_000_000, 100_000
	// growthAppends is how many events a turn appends to each of them.
	growthAppends = 500_000
	// growthPeriod is how often in a row somebody visits the same profile in their
	// history, growthTargets how many profiles each visits.
	growthPeriod, growthTargets = 10, 50
	// newTargets is where the profiles begin that history does not know; firstActor
	// keeps apart who acts in it from those of other loads.
	firstActor, firstTarget, newTargets = 1_000_000, 10_000_000, 20_000_000
	// growthTarget is the least rate beside a short log: a cost within 20 %.
	growthTarget = 1 / 1.2
)

// history is a log's past: members come one after the other and visit their
// profiles, each some times. Twice as long a log has twice as many members, and
// pairs.
type history struct {
	parts [partitions]past
}

// past is a partition's part of the history.
type past struct {
	actors []int // of the partition, in the order in which they come
	next   int   // how many actors were looked at
	events int   // how many have happened
	ids    numbers
	recent int // how many events after the history
}

func newHistory() *history {
	h := new(history)
	for p := range h.parts {
		h.parts[p].ids.line = uint64(p) //nolint:gosec // not negative
	}
	return h
}

// actor is the i-th of the partition.
func (p *past) actor(partition, i int) int {
	for len(p.actors) <= i {
		if a := firstActor + p.next; events.PartitionOf(person(a), partitions) == partition {
			p.actors = append(p.actors, a)
		}
		p.next++
	}
	return p.actors[i]
}

func (p *past) visit(partition, pair, target int) events.Event {
	a := act{activity.Visit, p.actor(partition, pair/growthTargets), target + pair%growthTargets}
	return eventOf(a, p.ids.id(), p.events)
}

// past continues the history by so many events of a partition.
func (h *history) past(partition, count int) []events.Event {
	p := &h.parts[partition]
	evs := make([]events.Event, count)
	for i := range evs {
		evs[i] = p.visit(partition, p.events/growthPeriod, firstTarget)
		p.events++
	}
	return evs
}

// after are visits after the history, a pair at most once until all have had their
// turn: every other one of a pair of the history, the others of new pairs.
func (h *history) after(partition, count int) []events.Event {
	p := &h.parts[partition]
	pairs := max(p.events/growthPeriod, 1)
	evs := make([]events.Event, count)
	for i := range evs {
		// A stride that shares no factor with the count reaches every pair.
		pair := p.recent / 2 * 7919 % pairs
		if p.recent%2 == 0 {
			evs[i] = p.visit(partition, pair, firstTarget)
		} else {
			evs[i] = p.visit(partition, pair, newTargets+p.recent/2/pairs*growthTargets)
		}
		p.recent++
	}
	return evs
}

// appendRate is how many events a second a log takes, in batches as in
// appendMongo, n in all. Before the clock runs, each partition's tail is known.
func appendRate(ctx context.Context, l *log.Log, load *batches, n int) (float64, error) {
	if err := each(ctx, partitions, func(ctx context.Context, p int) error {
		_, err := load.append(ctx, l, p, p)
		return err
	}); err != nil {
		return 0, err
	}
	rounds := max(n/(batchCallers*load.size), 1)
	return clocked(func() (int, error) {
		return rounds * batchCallers * load.size, each(ctx, batchCallers, func(ctx context.Context, caller int) error {
			for range rounds {
				if _, err := load.append(ctx, l, caller, caller%partitions); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// startAt is a ledger that nobody shares and nothing outlives, with a place to start
// in each partition.
func startAt(ctx context.Context, r log.Reader, heads [partitions]uint64) (subscription.Ledger, error) {
	ledger := subscription.NewMemory()
	for p, head := range heads {
		place := subscription.Place{Group: "bench", Log: r.Name(), Partition: p}
		if err := ledger.Save(ctx, subscription.Checkpoint{Place: place, Sequence: head}); err != nil {
			return nil, err
		}
	}
	return ledger, nil
}

// rateFor repeats what does n until the time is over.
func rateFor(d time.Duration, do func() (n int, err error)) (perSecond float64, err error) {
	return clocked(func() (total int, err error) {
		for until := time.Now().Add(d); total == 0 || time.Now().Before(until); {
			n, err := do()
			if total += n; err != nil {
				return total, err
			}
		}
		return total, nil
	})
}

// fresh is a name that was not used before.
func fresh(name string) string { return name + "-" + uuid.NewString()[:8] }

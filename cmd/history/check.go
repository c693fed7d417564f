package history

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Check proves the promises on everything that was recorded, against the logs'
// content, or lists violations, the gravest rule first, each with the shortest
// evidence that shows it. Each log that was recorded must be given; nobody may
// write to them meanwhile, and what is recorded meanwhile waits. The error is
// ctx's or a log's that cannot be read, or says how the recorder was misused; then
// nothing is proved.
func (r *Recorder) Check(ctx context.Context, logs ...log.Reader) ([]Violation, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault != nil {
		return nil, r.fault
	}
	if err := r.allGiven(logs); err != nil {
		return nil, err
	}
	found := newFindings()
	for _, l := range logs {
		c := newChecker(r, l, found)
		for p := range l.Partitions() {
			if err := c.partition(ctx, p); err != nil {
				return nil, fmt.Errorf("check the history of %s/%d: %w", l.Name(), p, err)
			}
		}
		c.deliveriesElsewhere()
		c.answers(ctx)
		c.runs(ctx)
		c.promisedTwice()
		if c.err != nil {
			return nil, fmt.Errorf("gather evidence from %s: %w", l.Name(), c.err)
		}
	}
	return found.sorted(), nil
}

// allGiven says which log was recorded and is not among those given.
func (r *Recorder) allGiven(logs []log.Reader) error {
	missing := make(map[string]bool)
	for _, name := range r.logs.list {
		missing[name] = true
	}
	for k := range r.lanes {
		missing[k.log] = true
	}
	for k := range r.complete {
		missing[k.log] = true
	}
	for name := range r.exclusive {
		missing[name] = true
	}
	for _, l := range logs {
		delete(missing, l.Name())
	}
	if len(missing) > 0 {
		return fmt.Errorf("history: the log %q was recorded; give its reader to Check, too", slices.Min(slices.Collect(maps.Keys(missing))))
	}
	return nil
}

// checker compares one log with what was recorded of it.
type checker struct {
	r      *Recorder
	log    log.Reader
	number int // of the log in the recorder; negative if nobody asked it for anything
	found  *findings
	err    error // the first failure to gather evidence

	index *index
	// again are the later positions of IDs that stand in the log more than once.
	again map[uint32][]events.Position
	// firsts are the first sequences of each partition's commits.
	firsts [][]uint64
	// nameless are the versions that were asked for without an event ID; written
	// are the types of those that the log holds.
	nameless map[streamVersion]bool
	written  map[streamVersion]string
	// types are those of which everybody who writes them was heard, all if
	// exclusive and empty.
	exclusive bool
	types     map[string]bool
}

// streamVersion is a version of a stream.
type streamVersion struct {
	stream  uuid.UUID
	version uint64
}

func newChecker(r *Recorder, l log.Reader, found *findings) *checker {
	c := &checker{
		r: r, log: l, number: -1, found: found,
		again: make(map[uint32][]events.Position), firsts: make([][]uint64, l.Partitions()),
		nameless: make(map[streamVersion]bool), written: make(map[streamVersion]string),
	}
	c.types, c.exclusive = r.exclusive[l.Name()]
	n, asked := r.logs.of[l.Name()]
	if !asked {
		c.index = newIndex(0)
		return c
	}
	c.number = int(n)
	c.index = newIndex(r.intents.len())
	c.index.ask(r, uint16(n)) //nolint:gosec // small says so
	for i := range r.intents.len() {
		in := r.intents.at(i)
		if in.id != uuid.Nil || in.version == 0 || int(r.calls.at(int(in.call)).log) != c.number {
			continue
		}
		c.nameless[streamVersion{in.stream, in.version}] = true
	}
	return c
}

// callOf is the call that the intent belongs to.
func (c *checker) callOf(intent uint32) *call {
	return c.r.calls.at(int(c.r.intents.at(int(intent)).call))
}

// partitionOf is the partition that the intent's event belongs to.
func (c *checker) partitionOf(in *intent) int {
	if in.sequence > 0 {
		return int(in.partition)
	}
	return events.PartitionOf(in.stream, c.log.Partitions())
}

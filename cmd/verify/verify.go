// Package verify checks the log's promises on the data itself.
//
// It reads every byte of a log and reports each fault with its place: commits
// that are harmed, sequences that are not dense, recorded time that runs
// backwards, IDs, versions or claims that stand twice, keys that the store has
// lost, events in a partition that is not theirs, and payloads that are not what
// their type says. It changes nothing.
package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// Finding is one fault.
type Finding struct {
	Log       string `json:"log"`
	Partition int    `json:"partition"`
	// Sequence is where, 0 if it is about the partition.
	Sequence uint64 `json:"sequence,omitempty"`
	Message  string `json:"message"`
}

func (f Finding) String() string {
	if f.Sequence == 0 {
		return fmt.Sprintf("%s/%d: %s", f.Log, f.Partition, f.Message)
	}
	return fmt.Sprintf("%s/%d at %d: %s", f.Log, f.Partition, f.Sequence, f.Message)
}

// Summary is what was read of a log.
type Summary struct {
	Log        string         `json:"log"`
	Partitions int            `json:"partitions"`
	Commits    int            `json:"commits"`
	Events     int            `json:"events"`
	Types      map[string]int `json:"types"`
	Unknown    int            `json:"unknown"` // of types that this build does not know
	Findings   int            `json:"findings"`
}

// keysAtOnce is how many keys are looked up with one call.
const keysAtOnce = 1000

// Log checks one log and calls report with each fault, and progress with the
// number of events of each commit that it has read. The error is ctx's or the
// store's, when it could not be read to the end for another reason than harm.
func Log(ctx context.Context, s log.Store, report func(Finding), progress func(events int)) (Summary, error) {
	sum := Summary{Log: s.Name(), Partitions: s.Partitions(), Types: make(map[string]int)}
	for p := range s.Partitions() {
		c := checker{store: s, sum: &sum, partition: p, progress: progress, ids: make(map[uuid.UUID]uint64), keys: make(map[string]uint64), versions: make(map[uuid.UUID]uint64)}
		c.report = func(sequence uint64, format string, args ...any) {
			sum.Findings++
			report(Finding{Log: s.Name(), Partition: p, Sequence: sequence, Message: fmt.Sprintf(format, args...)})
		}
		if err := c.run(ctx); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

type checker struct {
	store     log.Store
	sum       *Summary
	partition int
	report    func(sequence uint64, format string, args ...any)
	progress  func(events int)

	head     uint64
	recorded time.Time
	ids      map[uuid.UUID]uint64
	keys     map[string]uint64
	versions map[uuid.UUID]uint64
}

func (c *checker) run(ctx context.Context) error {
	// Others may append meanwhile: there must be all up to the head before, and
	// no more than up to the head after.
	least, err := c.store.Head(ctx, c.partition)
	if err != nil {
		return fmt.Errorf("head of %s/%d: %w", c.store.Name(), c.partition, err)
	}
	for commit, err := range c.store.Read(ctx, c.partition, 0) {
		if errors.Is(err, events.ErrCorrupt) {
			c.report(c.head+1, "it cannot be read on from here: %v", err)
			return nil
		}
		if err != nil {
			return err
		}
		c.commit(commit)
		c.progress(commit.Count)
	}
	most, err := c.store.Head(ctx, c.partition)
	if err != nil {
		return fmt.Errorf("head of %s/%d: %w", c.store.Name(), c.partition, err)
	}
	switch {
	case c.head < least:
		c.report(0, "its head was %d, but there are events only up to %d", least, c.head)
	case c.head > most:
		c.report(0, "its head is %d, but there are events up to %d", most, c.head)
	}
	return c.lookUp(ctx)
}

func (c *checker) commit(commit events.Commit) {
	c.sum.Commits++
	if commit.Log != c.store.Name() || commit.Partition != c.partition {
		c.report(commit.First, "the commit belongs to %s/%d", commit.Log, commit.Partition)
	}
	if commit.First != c.head+1 {
		c.report(commit.First, "sequence %d should follow %d", commit.First, c.head)
	}
	if commit.RecordedAt.Before(c.recorded) {
		c.report(commit.First, "recorded %v, the commit before it %v", commit.RecordedAt, c.recorded)
	}
	c.head, c.recorded = commit.Last(), commit.RecordedAt
	for e := range commit.Events() {
		c.event(e)
	}
}

func (c *checker) event(e events.Recorded) {
	c.sum.Events++
	c.sum.Types[e.Type]++
	if err := e.Validate(); err != nil {
		c.report(e.Sequence, "%v", err)
	}
	if before, twice := c.ids[e.ID]; twice {
		c.report(e.Sequence, "event %s stands at %d already", e.ID, before)
	}
	c.ids[e.ID] = e.Sequence
	if p := events.PartitionOf(e.Stream, c.store.Partitions()); p != c.partition {
		c.report(e.Sequence, "stream %s belongs to partition %d", e.Stream, p)
	}
	if e.Version > 0 {
		if want := c.versions[e.Stream] + 1; e.Version != want {
			c.report(e.Sequence, "version %d of stream %s where %d belongs", e.Version, e.Stream, want)
		}
		c.versions[e.Stream] = e.Version
	}
	for _, k := range e.Keys(nil) {
		if before, twice := c.keys[k]; twice {
			c.report(e.Sequence, "a key of event %s is held by the event at %d", e.ID, before)
		}
		c.keys[k] = e.Sequence
	}
	kind, known := events.Known(e.Type)
	switch {
	case !known:
		c.sum.Unknown++
	case kind.Log != c.store.Name():
		c.report(e.Sequence, "an event of type %s belongs to the log %s", e.Type, kind.Log)
	default:
		if err := json.Unmarshal(e.Data, kind.New()); err != nil {
			c.report(e.Sequence, "the data of %s is not what %s says: %v", e.ID, e.Type, err)
		}
	}
}

// lookUp checks that the store still guards every key that the events take.
func (c *checker) lookUp(ctx context.Context) error {
	keys := make([]string, 0, keysAtOnce)
	check := func() error {
		held, err := c.store.Held(ctx, c.partition, keys)
		if err != nil {
			return fmt.Errorf("keys of %s/%d: %w", c.store.Name(), c.partition, err)
		}
		for _, k := range keys {
			if !held[k] {
				c.report(c.keys[k], "the store does not guard a key of this event")
			}
		}
		keys = keys[:0]
		return nil
	}
	for k := range c.keys {
		if keys = append(keys, k); len(keys) == keysAtOnce {
			if err := check(); err != nil {
				return err
			}
		}
	}
	return check()
}

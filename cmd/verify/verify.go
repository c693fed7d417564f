// Package verify checks the log's promises on the data itself.
//
// It walks over all that a store keeps of a log and reports each fault with its
// place, never stopping at one: commits that are harmed, of another format, log
// or partition, or that do not agree with what the store says of them; sequences
// that are missing or stand twice; recorded time that runs backwards; IDs,
// versions or claims that stand twice; keys that the store has lost, that no
// event has, or that lead elsewhere; events in a partition that is not theirs;
// and payloads that are not what their type says. It changes nothing, and others
// may append meanwhile.
//
// A partition's IDs and keys are in memory while it is checked: about 100 bytes
// an event, and the key and 100 bytes for each key.
//
// What cannot be seen in a log is that its end is missing: one that has lost its last
// commits, and their keys, is a whole, shorter log. It shows where a subscription has
// worked through more than is there; checkpoints say so.
package verify

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
)

// Finding is one fault.
type Finding struct {
	// Log and Partition say where; Log is empty if it is about more than one.
	Log       string `json:"log,omitempty"`
	Partition int    `json:"partition"`
	// Sequence is where, 0 if it is about the partition.
	Sequence uint64 `json:"sequence,omitempty"`
	// Place is where the store keeps it, if that matters.
	Place   string `json:"place,omitempty"`
	Message string `json:"message"`
}

func (f Finding) String() string {
	text := f.Message
	if f.Place != "" {
		text = f.Place + ": " + text
	}
	switch {
	case f.Log == "":
		return text
	case f.Sequence == 0:
		return fmt.Sprintf("%s/%d: %s", f.Log, f.Partition, text)
	}
	return fmt.Sprintf("%s/%d at %d: %s", f.Log, f.Partition, f.Sequence, text)
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

// Log checks the log of a store that is open. Both stores can be walked over.
func Log(ctx context.Context, s log.Store, reached []subscription.Checkpoint, report func(Finding), progress func(events int)) (Summary, error) {
	scanner, ok := s.(log.Scanner)
	if !ok {
		return Summary{}, fmt.Errorf("check the log %s: its store cannot be walked over", s.Name())
	}
	return Scan(ctx, scanner, reached, report, progress)
}

// Scan checks one log and calls report with each fault, and progress with the
// number of events of each commit that it has read. Checkpoints of any log that were
// read before tell it how far the log must reach. The error is ctx's or the store's,
// when it could not be read to the end for another reason than harm.
func Scan(ctx context.Context, s log.Scanner, reached []subscription.Checkpoint, report func(Finding), progress func(events int)) (Summary, error) {
	sum := Summary{Log: s.Name(), Partitions: s.Partitions(), Types: make(map[string]int)}
	for p := range s.Partitions() {
		c := checker{
			store: s, sum: &sum, partition: p, progress: progress,
			reached: reached, ids: make(map[uuid.UUID]uint64), keys: make(map[string]held), versions: make(map[uuid.UUID]uint64), harmed: make(map[uint64]bool),
		}
		c.tell = func(f Finding) {
			sum.Findings++
			f.Log, f.Partition = s.Name(), p
			report(f)
		}
		if err := c.run(ctx); err != nil {
			return sum, err
		}
	}
	return sum, nil
}

type checker struct {
	store     log.Scanner
	sum       *Summary
	partition int
	tell      func(Finding)
	progress  func(events int)
	reached   []subscription.Checkpoint

	head     uint64 // of what was read
	lossy    bool   // something before head could not be read
	pending  *Finding
	recorded time.Time
	ids      map[uuid.UUID]uint64
	keys     map[string]held
	versions map[uuid.UUID]uint64
	harmed   map[uint64]bool // what stands under these numbers cannot be read
}

// held is a key that an event takes.
type held struct {
	sequence, first uint64 // of the event and of its commit
	guarded         bool   // the store has it
	twice           bool   // several events take it
}

func (c *checker) report(sequence uint64, format string, args ...any) {
	c.tell(Finding{Sequence: sequence, Message: fmt.Sprintf(format, args...)})
}

func (c *checker) run(ctx context.Context) error {
	for e, err := range c.store.Entries(ctx, c.partition) {
		if err != nil {
			return err
		}
		c.entry(e)
	}
	if c.pending != nil {
		c.settle("; nothing that can be read follows it")
	} else {
		c.checkEnd()
	}
	return c.checkKeys(ctx)
}

// checkEnd looks whether somebody has come further than the partition reaches.
func (c *checker) checkEnd() {
	var furthest subscription.Checkpoint
	for _, r := range c.reached {
		if r.Log == c.store.Name() && r.Partition == c.partition && r.Sequence > max(c.head, furthest.Sequence) {
			furthest = r
		}
	}
	if furthest.Sequence > 0 {
		c.report(c.head+1, "sequences %d to %d are missing: the subscription %s has worked through them, and the log ends before", c.head+1, furthest.Sequence, furthest.Group)
	}
}

// entry checks what the store keeps in the place of a commit.
func (c *checker) entry(e log.Entry) {
	commit := e.Commit
	readable := commit.Count > 0
	ours := readable && commit.Log == c.store.Name() && commit.Partition == c.partition && commit.First == e.Sequence
	if e.Err == nil && !ours {
		e.Err = fmt.Errorf("it holds commit %d of %s/%d", commit.First, commit.Log, commit.Partition)
	}
	if e.Sequence > 0 {
		c.follow(e.Sequence)
	}
	if e.Err != nil {
		c.pending = &Finding{Sequence: e.Sequence, Place: e.Place, Message: e.Err.Error()}
	}
	switch {
	case ours:
		c.settle("")
		c.commit(commit)
		c.progress(commit.Count)
	case e.Sequence == 0:
		c.settle("")
	default:
		c.lossy = true
		c.harmed[e.Sequence] = true
		c.head = max(c.head, e.Sequence-1)
	}
}

// follow checks that a sequence is the one that must follow. Where what is before
// it cannot be read, it is told how far that reaches.
func (c *checker) follow(first uint64) {
	if c.pending != nil {
		c.settle(fmt.Sprintf("; sequences %d to %d cannot be read", c.pending.Sequence, max(first-1, c.pending.Sequence)))
		c.head = max(c.head, first-1)
		return
	}
	switch {
	case first > c.head+1:
		c.report(c.head+1, "sequences %d to %d are missing", c.head+1, first-1)
		c.lossy = true
	case first <= c.head:
		c.report(first, "a commit starts at %d, but events up to %d stand before it", first, c.head)
	}
}

// settle reports what was held back until it was known how far it reaches.
func (c *checker) settle(reach string) {
	if c.pending != nil {
		c.pending.Message += reach
		c.tell(*c.pending)
		c.pending = nil
	}
}

func (c *checker) commit(commit events.Commit) {
	c.sum.Commits++
	if commit.RecordedAt.Before(c.recorded) {
		c.report(commit.First, "recorded %v, the commit before it %v", commit.RecordedAt, c.recorded)
	}
	c.head, c.recorded = max(c.head, commit.Last()), commit.RecordedAt
	for e := range commit.Events() {
		c.event(e, commit.First)
	}
}

func (c *checker) event(e events.Recorded, first uint64) {
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
	c.version(e)
	for _, k := range e.Keys(nil) {
		before, twice := c.keys[k]
		if twice {
			c.report(e.Sequence, "a key of event %s is held by the event at %d", e.ID, before.sequence)
		}
		c.keys[k] = held{sequence: e.Sequence, first: first, twice: twice}
	}
	kind, known := events.Known(e.Type)
	switch {
	case events.IsSuperseded(e.Type):
		if _, err := events.Upcast(e); err != nil {
			c.report(e.Sequence, "%v", err)
		}
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

// version checks that a stream's versions follow each other. Where commits are
// lost, so may be the versions between.
func (c *checker) version(e events.Recorded) {
	if e.Version == 0 {
		return
	}
	before := c.versions[e.Stream]
	if want := before + 1; e.Version != want && (!c.lossy || e.Version < want) {
		c.report(e.Sequence, "version %d of stream %s where %d belongs", e.Version, e.Stream, want)
	}
	c.versions[e.Stream] = e.Version
}

// checkKeys checks the store's keys against those that the events take.
func (c *checker) checkKeys(ctx context.Context) error {
	late := make(map[string]log.StoredKey) // of commits beyond what was read
	for k, err := range c.store.Keys(ctx, c.partition) {
		if err != nil {
			return err
		}
		want, known := c.keys[k.Key]
		switch {
		case k.Err != nil:
			c.tell(Finding{Place: k.Place, Message: k.Err.Error()})
		case known && want.first == k.First:
			want.guarded = true
			c.keys[k.Key] = want
		case known && !want.twice:
			want.guarded = true
			c.keys[k.Key] = want
			c.tell(Finding{Sequence: want.sequence, Place: k.Place, Message: fmt.Sprintf("a key of this event leads to commit %d, the event is in commit %d", k.First, want.first)})
		case known || c.harmed[k.First]:
			// One of several that were reported, or a key of what cannot be read.
		case k.First > c.head:
			late[k.Key] = k
		default:
			c.tell(Finding{Sequence: k.First, Place: k.Place, Message: "the store guards a key that no event of this commit takes"})
		}
	}
	var lost []uint64
	for _, h := range c.keys {
		if !h.guarded && !h.twice {
			lost = append(lost, h.sequence)
		}
	}
	slices.Sort(lost)
	for _, sequence := range lost {
		c.report(sequence, "the store does not guard a key of this event")
	}
	return c.checkLate(ctx, late)
}

// checkLate looks whether keys that lead beyond what was read belong to commits
// that came meanwhile.
func (c *checker) checkLate(ctx context.Context, late map[string]log.StoredKey) error {
	if len(late) == 0 {
		return nil
	}
	for e, err := range c.store.Entries(ctx, c.partition) {
		if err != nil {
			return err
		}
		if e.Sequence <= c.head {
			continue
		}
		for r := range e.Commit.Events() {
			for _, k := range r.Keys(nil) {
				if late[k].First == e.Sequence {
					delete(late, k)
				}
			}
		}
	}
	nowhere := make([]log.StoredKey, 0, len(late))
	for _, k := range late {
		nowhere = append(nowhere, k)
	}
	slices.SortFunc(nowhere, func(a, b log.StoredKey) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Key, b.Key))
	})
	for _, k := range nowhere {
		c.tell(Finding{Sequence: k.First, Place: k.Place, Message: "a key leads to a commit that is not there"})
	}
	return nil
}

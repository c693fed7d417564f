package log_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

var errCrashed = errors.New("the process has crashed")

// simStore is the store of a simulation: a primary that accepts commits, and what
// a majority has of them, which is a prefix of it. Like MongoDB, the primary
// refuses a sequence or a key that is taken and checks nothing else.
type simStore struct {
	parts []*simPartition

	mu    sync.Mutex // guards what follows and every simProcess.dead
	calls []*simCall // parked, by process, partition and number
	wire  []*simCall // inserts whose caller has gone and that may still arrive
}

type simPartition struct {
	primary []simEntry
	taken   map[uint64]bool // first sequences on the primary
	keys    map[string]bool // keys on the primary
	durable simDurable
}

type simEntry struct {
	commit events.Commit
	keys   []string
	from   *simCall
}

// simDurable is what a majority has, and what every reader may see.
type simDurable struct {
	commits  []events.Commit
	events   []events.Recorded // the event at sequence n is at n-1
	ids      map[uuid.UUID]uint64
	holders  map[string]uuid.UUID // of keys
	versions map[uuid.UUID]uint64
}

func (d *simDurable) head() uint64 { return uint64(len(d.events)) }

func newSimStore(partitions int) *simStore {
	s := &simStore{}
	for range partitions {
		s.parts = append(s.parts, &simPartition{
			taken: map[uint64]bool{}, keys: map[string]bool{},
			durable: simDurable{ids: map[uuid.UUID]uint64{}, holders: map[string]uuid.UUID{}, versions: map[uuid.UUID]uint64{}},
		})
	}
	return s
}

type simKind int

const (
	simInsert simKind = iota
	simRead
	simHead
	simHeld
)

// simCall is a call of a process to the store. It parks until the schedule
// answers it or its ctx ends.
type simCall struct {
	kind      simKind
	by        *simProcess
	partition int
	number    int // counts the process's calls on the partition
	commit    events.Commit
	keys      []string
	after     uint64

	performed bool // the store has done it; the answer is on its way
	err       error
	commits   []events.Commit // what a read brings, before err
	head      uint64
	held      map[string]bool
	answer    chan struct{}
}

func (c *simCall) String() string {
	var what string
	switch c.kind {
	case simInsert:
		what = fmt.Sprintf("insert %d (%s)", c.commit.First, simIDs(c.commit))
	case simRead:
		what = fmt.Sprintf("read after %d", c.after)
	case simHead:
		what = "head"
	case simHeld:
		what = fmt.Sprintf("held %d keys", len(c.keys))
	}
	return fmt.Sprintf("w%d/%d #%d %s", c.by.number, c.partition, c.number, what)
}

func simIDs(c events.Commit) string {
	var b strings.Builder
	for e := range c.Events() {
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(simName(e.ID))
	}
	return b.String()
}

func bySimOrder(a, b *simCall) int {
	if a.by != b.by {
		return a.by.number - b.by.number
	}
	if a.partition != b.partition {
		return a.partition - b.partition
	}
	return a.number - b.number
}

// insertSorted keeps the order independent of which goroutine came first.
func insertSorted(calls []*simCall, c *simCall) []*simCall {
	i, _ := slices.BinarySearchFunc(calls, c, bySimOrder)
	return slices.Insert(calls, i, c)
}

func remove(calls []*simCall, c *simCall) []*simCall {
	i := slices.Index(calls, c)
	return slices.Delete(calls, i, i+1)
}

// simProcess is a process that writes: a log, and the connection that it reaches
// the store over.
type simProcess struct {
	store   *simStore
	number  int
	id      uuid.UUID
	log     *log.Log
	dead    bool
	calls   []int             // made so far, by partition
	written [][]events.Commit // what Committed was told, by partition
}

var _ log.Gister = (*simProcess)(nil)

func (p *simProcess) Name() string    { return "test" }
func (p *simProcess) Partitions() int { return len(p.store.parts) }

func (p *simProcess) crashed() bool {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	return p.dead
}

// park hands the call to the schedule and waits for the answer.
func (p *simProcess) park(ctx context.Context, c *simCall) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.by, c.answer = p, make(chan struct{})
	p.store.mu.Lock()
	if p.dead {
		p.store.mu.Unlock()
		return errCrashed
	}
	p.calls[c.partition]++
	c.number = p.calls[c.partition]
	p.store.calls = insertSorted(p.store.calls, c)
	p.store.mu.Unlock()
	select {
	case <-c.answer:
		return c.err
	case <-ctx.Done():
		p.store.mu.Lock()
		defer p.store.mu.Unlock()
		p.store.abandon(c)
		return ctx.Err()
	}
}

// abandon forgets a call whose caller waits no more. An insert stays on the wire.
func (s *simStore) abandon(c *simCall) {
	s.calls = remove(s.calls, c)
	if c.kind == simInsert && !c.performed {
		s.wire = insertSorted(s.wire, c)
	}
}

func (p *simProcess) Insert(ctx context.Context, c events.Commit, keys []string) error {
	return p.park(ctx, &simCall{kind: simInsert, partition: c.Partition, commit: c, keys: slices.Clone(keys)})
}

func (p *simProcess) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		c := &simCall{kind: simRead, partition: partition, after: after}
		err := p.park(ctx, c)
		if err == nil || c.performed {
			for _, commit := range c.commits {
				if !yield(commit, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(events.Commit{}, err)
		}
	}
}

// InsertWithGist is Insert: commits of the simulation always have their gist.
func (p *simProcess) InsertWithGist(ctx context.Context, c events.Commit, keys []string) error {
	return p.Insert(ctx, c, keys)
}

// Gists is Read: what matters here is when it is answered.
func (p *simProcess) Gists(ctx context.Context, partition int, after uint64) iter.Seq2[log.Gist, error] {
	return func(yield func(log.Gist, error) bool) {
		for c, err := range p.Read(ctx, partition, after) {
			g := log.Gist{First: c.First, RecordedAt: c.RecordedAt}
			for e := range c.Events() {
				g.IDs = append(g.IDs, e.ID)
			}
			if !yield(g, err) {
				return
			}
		}
	}
}

func (p *simProcess) Head(ctx context.Context, partition int) (uint64, error) {
	c := &simCall{kind: simHead, partition: partition}
	err := p.park(ctx, c)
	return c.head, err
}

func (p *simProcess) Held(ctx context.Context, partition int, keys []string) (map[string]bool, error) {
	c := &simCall{kind: simHeld, partition: partition, keys: slices.Clone(keys)}
	err := p.park(ctx, c)
	return c.held, err
}

func (p *simProcess) ByKey(context.Context, int, string, string) ([]events.Commit, error) {
	return nil, errors.New("a writer does not look up by key")
}

// apply is the primary taking an insert or refusing it.
func (p *simPartition) apply(c *simCall) error {
	if p.taken[c.commit.First] {
		return log.ErrTaken
	}
	for _, k := range c.keys {
		if p.keys[k] {
			return log.ErrTaken
		}
	}
	p.taken[c.commit.First] = true
	for _, k := range c.keys {
		p.keys[k] = true
	}
	p.primary = append(p.primary, simEntry{c.commit, c.keys, c})
	return nil
}

// fail takes from the primary what no majority has: another one was elected.
func (p *simPartition) fail() (lost int) {
	n := len(p.durable.commits)
	for _, e := range p.primary[n:] {
		delete(p.taken, e.commit.First)
		for _, k := range e.keys {
			delete(p.keys, k)
		}
		e.from.err = errLost
		lost++
	}
	p.primary = p.primary[:n]
	return lost
}

// replicate makes what the primary has up to its n-th commit durable, and says
// what that breaks.
func (p *simPartition) replicate(n int) error {
	for len(p.durable.commits) < n {
		if err := p.durable.add(p.primary[len(p.durable.commits)].commit); err != nil {
			return err
		}
	}
	return nil
}

func (d *simDurable) add(c events.Commit) error {
	if c.First != d.head()+1 {
		return fmt.Errorf("commit %d follows sequence %d", c.First, d.head())
	}
	for e := range c.Events() {
		if at, twice := d.ids[e.ID]; twice {
			return fmt.Errorf("event %s is at %d and at %d", simName(e.ID), at, e.Sequence)
		}
		if n := len(d.events); n > 0 && e.RecordedAt.Before(d.events[n-1].RecordedAt) {
			return fmt.Errorf("recorded time runs backwards at %d", e.Sequence)
		}
		if e.Version > 0 {
			if d.versions[e.Stream] != e.Version-1 {
				return fmt.Errorf("event %s is version %d of a stream at version %d", simName(e.ID), e.Version, d.versions[e.Stream])
			}
			d.versions[e.Stream] = e.Version
		}
		for _, k := range e.Keys(nil) {
			if holder, taken := d.holders[k]; taken {
				return fmt.Errorf("events %s and %s hold one key", simName(holder), simName(e.ID))
			}
			d.holders[k] = e.ID
		}
		d.ids[e.ID] = e.Sequence
		d.events = append(d.events, e)
	}
	d.commits = append(d.commits, c)
	return nil
}

// read performs a call that only looks, on the first n commits that are durable.
func (d *simDurable) read(c *simCall, n int) {
	seen := d.commits[:n]
	switch c.kind {
	case simRead:
		for _, commit := range seen {
			if commit.Last() > c.after {
				c.commits = append(c.commits, commit)
			}
		}
	case simHead:
		if n > 0 {
			c.head = seen[n-1].Last()
		}
	case simHeld:
		c.held = make(map[string]bool)
		for _, k := range c.keys {
			if holder, ok := d.holders[k]; ok && (n == len(d.commits) || d.ids[holder] < d.commits[n].First) {
				c.held[k] = true
			}
		}
	}
}

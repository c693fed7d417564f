package log_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
)

// simClients ask the processes of a simulation to append, remember what they were
// told, and hold it against what the log says.
type simClients struct {
	s        *simulation
	left     int // appends still to be made
	again    int // of 100 appends, how many were made before
	crowd    int // of 100 appends, how many go to the first process
	burst    int // appends that come at once, at most
	claims   int // of 10 events, how many claim something
	bundles  []*simBundle
	attempts []*simAttempt
	open     []*simAttempt // wait for an answer
	known    map[uuid.UUID]*simEvent
}

// simBundle is the events of one append, which may be tried more than once.
type simBundle struct {
	number    int
	partition int
	events    []events.Event
	attempts  []*simAttempt
}

// simEvent is what the clients know of an event.
type simEvent struct {
	events.Event
	bundles  []*simBundle
	attempts int
}

// simAttempt is one call of Append.
type simAttempt struct {
	*simBundle
	number  int
	by      *simProcess
	pending *log.Pending
	outcome simOutcome
	// head and early are what a majority had when the call was made: the head, and
	// by event whether the version before it was there.
	head  uint64
	early []bool
}

type simOutcome int

const (
	simOpen simOutcome = iota
	simAcknowledged
	simConflict
	simUnknown
)

func (a *simAttempt) String() string {
	return fmt.Sprintf("append %d of bundle %d by w%d/%d", a.number, a.simBundle.number, a.by.number, a.partition)
}

func newSimClients(s *simulation) simClients {
	return simClients{
		s: s, left: 3 + s.random.IntN(simMaxAppends-2), again: s.random.IntN(50), crowd: s.random.IntN(100),
		burst: 1 + s.random.IntN(6), claims: 1 + s.random.IntN(8),
		known: map[uuid.UUID]*simEvent{},
	}
}

func (c *simClients) durable(partition int) *simDurable { return &c.s.store.parts[partition].durable }

// submit makes the next appends through one process: new ones, or some that were
// made before.
func (c *simClients) submit() {
	by := c.s.processes[c.s.random.IntN(len(c.s.processes))]
	if c.s.percent(c.crowd) {
		by = c.s.processes[0]
	}
	for n := min(c.left, 1+c.s.random.IntN(c.burst)); n > 0; n-- {
		c.left--
		if made := len(c.bundles); made > 0 && c.s.percent(c.again) {
			c.try(c.bundles[c.s.random.IntN(made)], by)
		} else {
			c.try(c.invent(), by)
		}
		c.s.wait()
	}
}

// simStreams are the streams of each kind, plain and versioned, by partition.
const simStreams = 2

func simStream(versioned bool, partition, partitions, n int) uuid.UUID {
	id := uuid.UUID{0: 1}
	if versioned {
		id[0] = 2
	}
	for ; ; id[15]++ {
		if events.PartitionOf(id, partitions) == partition {
			if n == 0 {
				return id
			}
			n--
		}
	}
}

// invent makes up an append of one to three events of one partition. Versions are
// near the right one, claims are few: they are meant to collide.
func (c *simClients) invent() *simBundle {
	r, parts := c.s.random, len(c.s.store.parts)
	b := &simBundle{number: len(c.bundles), partition: r.IntN(parts)}
	n := 1
	if c.s.percent(30) {
		n = 2 + r.IntN(2)
	}
	for range n {
		e := events.Event{ID: c.s.id(), Type: events.ProfileVisited, OccurredAt: time.Unix(int64(r.IntN(1000)), 0)}
		e.Data = e.ID[:4:4]
		e.Stream = simStream(false, b.partition, parts, r.IntN(simStreams))
		claiming, kind := r.IntN(10) < c.claims, r.IntN(10)
		if kind < 4 {
			e.Stream = simStream(true, b.partition, parts, r.IntN(simStreams))
			e.Version = c.durable(b.partition).versions[e.Stream] + 1
			for _, before := range b.events {
				if before.Stream == e.Stream {
					e.Version = before.Version + 1
				}
			}
			switch r.IntN(10) {
			case 0:
				e.Version++
			case 1:
				e.Version = max(1, e.Version-1)
			}
		}
		if claiming {
			for claims := 1 + r.IntN(2); claims > 0; claims-- {
				e.Claims = append(e.Claims, string(rune('a'+r.IntN(4))))
			}
			slices.Sort(e.Claims)
			e.Claims = slices.Compact(e.Claims)
		}
		b.events = append(b.events, e)
	}
	if len(c.bundles) > 0 && c.s.percent(10) { // with an event of another append
		if other := c.bundles[r.IntN(len(c.bundles))]; other.partition == b.partition {
			b.events = slices.Insert(b.events, r.IntN(len(b.events)+1), other.events[r.IntN(len(other.events))])
		}
	}
	c.bundles = append(c.bundles, b)
	for _, e := range b.events {
		if c.known[e.ID] == nil {
			c.known[e.ID] = &simEvent{Event: e}
		}
		c.known[e.ID].bundles = append(c.known[e.ID].bundles, b)
	}
	return b
}

// try appends a bundle through a process.
func (c *simClients) try(b *simBundle, by *simProcess) {
	d := c.durable(b.partition)
	a := &simAttempt{simBundle: b, number: len(c.attempts), by: by, head: d.head()}
	for _, e := range b.events {
		_, there := d.holders[events.VersionKey(e.Stream, e.Version-1)]
		a.early = append(a.early, e.Version <= 1 || there)
		c.known[e.ID].attempts++
	}
	pending, err := by.log.Submit(b.events...)
	if err != nil {
		c.s.breaks("%v is refused: %w", a, err)
		return
	}
	a.pending = pending
	b.attempts = append(b.attempts, a)
	c.attempts = append(c.attempts, a)
	c.open = append(c.open, a)
	if c.s.trace != nil {
		c.s.note("%v:%s", a, simDescribe(b.events))
	}
}

func simDescribe(evs []events.Event) string {
	var out []byte
	for _, e := range evs {
		out = fmt.Appendf(out, " %s", simName(e.ID))
		if e.Version > 0 {
			out = fmt.Appendf(out, " s%d@%d", e.Stream[15], e.Version)
		}
		if len(e.Claims) > 0 {
			out = fmt.Appendf(out, " claims %v", e.Claims)
		}
	}
	return string(out)
}

// giveUp is a client that waits no more.
func (c *simClients) giveUp(i int) {
	c.s.note("%v: the client has gone", c.open[i])
	c.open[i].outcome = simUnknown
	c.open = slices.Delete(c.open, i, i+1)
}

// forget is a process that crashed and answers nobody.
func (c *simClients) forget(p *simProcess) {
	c.open = slices.DeleteFunc(c.open, func(a *simAttempt) bool {
		if a.by == p {
			a.outcome = simUnknown
		}
		return a.by == p
	})
}

// collect takes the answers that have come and checks each against what a
// majority has at this moment.
func (c *simClients) collect() {
	c.open = slices.DeleteFunc(c.open, func(a *simAttempt) bool {
		if !a.pending.Answered() {
			return false
		}
		result, err := a.pending.Wait(context.Background())
		switch {
		case err == nil:
			a.outcome = simAcknowledged
			c.s.note("%v is acknowledged at %d", a, result[0].Sequence)
			c.acknowledged(a, result)
		case errors.Is(err, log.ErrConflict):
			a.outcome = simConflict
			c.s.note("%v: %v", a, err)
			c.conflicted(a, err)
		case errors.Is(err, log.ErrUnavailable):
			a.outcome = simUnknown
			c.s.note("%v: %v", a, err)
			if c.s.calm() > simPatience && !c.s.stale {
				c.s.breaks("%v has no better answer after %v without a fault: %w", a, c.s.calm(), err)
			}
		default:
			c.s.breaks("%v is answered with %w", a, err)
		}
		return true
	})
}

func (c *simClients) acknowledged(a *simAttempt, result []log.Appended) {
	d := c.durable(a.partition)
	if len(result) != len(a.events) {
		c.s.breaks("%v has %d answers for %d events", a, len(result), len(a.events))
		return
	}
	for i, r := range result {
		e := a.events[i]
		if at, there := d.ids[e.ID]; !there || at != r.Sequence || r.Partition != a.partition {
			c.s.breaks("%v: event %s is acknowledged at %d/%d, a majority has it at %d", a, simName(e.ID), r.Partition, r.Sequence, at)
			return
		}
		if r.Duplicate {
			if known := c.known[e.ID]; known.attempts < 2 && countIDs(a.events, e.ID) < 2 {
				c.s.breaks("%v: event %s is called a duplicate, it was appended once", a, simName(e.ID))
			}
			continue
		}
		recorded := d.events[r.Sequence-1].RecordedAt
		commit := c.commitAt(a.partition, r.Sequence)
		switch {
		case !r.RecordedAt.Equal(recorded):
			c.s.breaks("%v: event %s is acknowledged as recorded at %v and is at %v", a, simName(e.ID), r.RecordedAt, recorded)
		case commit.Writer != a.by.id:
			c.s.breaks("%v: event %s is not called a duplicate, another process wrote it", a, simName(e.ID))
		case c.known[e.ID].attempts == 1 && r.Sequence <= a.head:
			c.s.breaks("%v: event %s is acknowledged at %d, the log stood at %d before it was asked for", a, simName(e.ID), r.Sequence, a.head)
		case !slices.ContainsFunc(a.by.written[a.partition], func(w events.Commit) bool { return w.First == commit.First }):
			c.s.breaks("%v: Committed was not called with commit %d", a, commit.First)
		}
	}
}

func countIDs(evs []events.Event, id uuid.UUID) (n int) {
	for i := range evs {
		if evs[i].ID == id {
			n++
		}
	}
	return n
}

func (c *simClients) commitAt(partition int, sequence uint64) events.Commit {
	for _, commit := range c.durable(partition).commits {
		if commit.Last() >= sequence {
			return commit
		}
	}
	return events.Commit{}
}

// conflicted checks that what the append ran into is there. Stale reads may show
// a stream before it moved: what they allow is not checked.
func (c *simClients) conflicted(a *simAttempt, err error) {
	conflict, ok := errors.AsType[*log.ConflictError](err)
	i := slices.IndexFunc(a.events, func(e events.Event) bool { return ok && e.ID == conflict.Event })
	if i < 0 {
		c.s.breaks("%v: the conflict names none of its events: %w", a, err)
		return
	}
	if c.s.stale {
		return
	}
	e, d := a.events[i], c.durable(a.partition)
	if at := d.ids[e.ID]; at > 0 && at <= a.head {
		c.s.breaks("%v: a conflict of event %s, which was at %d before it was asked for", a, simName(e.ID), at)
		return
	}
	key := events.VersionKey(e.Stream, e.Version)
	if conflict.Claim != "" {
		key = events.ClaimKey(conflict.Claim)
	}
	holder, held := d.holders[key]
	within := slices.ContainsFunc(a.events[:i], func(other events.Event) bool {
		return other.ID != e.ID && slices.Contains(other.Keys(nil), key)
	})
	moved := conflict.Claim == "" && !a.early[i]
	if held && holder != e.ID || within || moved {
		return
	}
	c.s.breaks("%v: a conflict of event %s, and nothing that it is with", a, simName(e.ID))
}

// settle appends again, through a process that knows nothing, whatever has no
// answer yet and some of what has.
func (c *simClients) settle() {
	c.s.note("what is open is appended again")
	c.s.start()
	by := c.s.processes[len(c.s.processes)-1]
	for _, b := range c.bundles {
		open := !slices.ContainsFunc(b.attempts, func(a *simAttempt) bool { return a.outcome != simUnknown })
		if open || c.s.percent(20) {
			c.try(b, by)
			c.s.wait()
		}
	}
}

// check holds everything that the clients were told against the whole log.
func (c *simClients) check() {
	for part := range c.s.store.parts {
		c.checkContent(part)
	}
	for _, b := range c.bundles {
		c.checkBundle(b)
	}
	for _, p := range c.s.all {
		c.checkOrder(p)
		c.checkCommitted(p)
	}
}

// checkContent: nothing is in the log that nobody asked for, and all of it as
// asked for.
func (c *simClients) checkContent(part int) {
	for _, e := range c.durable(part).events {
		known := c.known[e.ID]
		if known == nil || !bytes.Equal(known.Data, e.Data) || known.Stream != e.Stream || known.Version != e.Version || !slices.Equal(known.Claims, e.Claims) {
			c.s.breaks("partition %d at %d: not what was appended", part, e.Sequence)
		}
	}
}

// checkBundle: an append is in the log whole or not at all; in one piece unless
// its events were appended otherwise too; and not at all if it was refused.
func (c *simClients) checkBundle(b *simBundle) {
	d := c.durable(b.partition)
	refused := true
	for _, a := range b.attempts {
		refused = refused && a.outcome == simConflict
		if a.outcome == simOpen || a.by == c.s.processes[len(c.s.processes)-1] && a.outcome == simUnknown {
			c.s.breaks("%v was not answered", a)
		}
	}
	shared := slices.ContainsFunc(b.events, func(e events.Event) bool { return len(c.known[e.ID].bundles) > 1 })
	if shared {
		return
	}
	for i, e := range b.events {
		first, at := d.ids[b.events[0].ID], d.ids[e.ID]
		switch {
		case at > 0 && refused:
			c.s.breaks("bundle %d was refused, its event %s is at %d", b.number, simName(e.ID), at)
		case at > 0 && first == 0 || at == 0 && first > 0 || at > 0 && at != first+uint64(i): //nolint:gosec // an index
			c.s.breaks("bundle %d is not whole: its first event is at %d, event %d at %d", b.number, first, i, at)
		}
	}
}

// checkOrder: what was appended once stands in the order in which its process was
// asked for it.
func (c *simClients) checkOrder(p *simProcess) {
	last := make([]uint64, len(c.s.store.parts))
	for _, a := range c.attempts {
		if a.by != p {
			continue
		}
		for _, e := range a.events {
			at := c.durable(a.partition).ids[e.ID]
			if at == 0 || c.known[e.ID].attempts > 1 {
				continue
			}
			if at < last[a.partition] {
				c.s.breaks("%v: event %s is at %d, before one that was asked for earlier, at %d", a, simName(e.ID), at, last[a.partition])
			}
			last[a.partition] = at
		}
	}
}

// checkCommitted: a process says of commits that are in the log, in order, that
// it wrote them.
func (c *simClients) checkCommitted(p *simProcess) {
	for part, commits := range p.written {
		last := uint64(0)
		for _, w := range commits {
			there := c.commitAt(part, w.First)
			if w.First <= last || there.First != w.First || !bytes.Equal(there.Bytes(), w.Bytes()) {
				c.s.breaks("w%d/%d: Committed was called with commit %d, the log has %d", p.number, part, w.First, there.First)
			}
			last = w.Last()
		}
	}
}

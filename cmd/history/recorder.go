package history

import (
	"fmt"
	"hash/maphash"
	"math"
	"sync"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// mostReasons bounds how many different reasons for conflicts and unknown
// outcomes are kept; later ones are all called otherReason.
const (
	mostReasons = 1000
	otherReason = "for another reason"
)

// Recorder takes a history down. It is safe for concurrent use. It orders what it
// is told with one counter (a logical clock), so that "A was answered before B was
// asked" is exact: call Invoke before the request leaves and Acknowledge after the
// answer is there.
type Recorder struct {
	seed maphash.Seed

	mu      sync.Mutex
	clock   uint64
	calls   blocks[call]
	intents blocks[intent]
	claims  map[uint32][]string // by intent; few have any
	lanes   map[laneKey]*lane
	logs    names
	types   names
	clients names
	reasons names
	counts  Counts
	fault   error // the first misuse; Check returns it

	exclusive map[string]map[string]bool // types by log; none of a log: all
	complete  map[completion]bool
}

// NewRecorder makes an empty one.
func NewRecorder() *Recorder {
	return &Recorder{
		seed: maphash.MakeSeed(), claims: make(map[uint32][]string), lanes: make(map[laneKey]*lane),
		exclusive: make(map[string]map[string]bool), complete: make(map[completion]bool),
	}
}

// Intent is one event that a client wants written.
type Intent struct {
	// ID is the event's. Nil if the server makes it: then the event is known by
	// its stream and version, and Claims are names in the client's own terms.
	ID uuid.UUID
	// Type is the event's type; empty if the client cannot know it.
	Type string
	// Stream is the event's; Nil if the client cannot know it.
	Stream uuid.UUID
	// Version is the stream's that was asked for; 0 if none was, or if the client
	// cannot know it.
	Version uint64
	// Claims are those that the event should take; none if the client cannot know
	// how the log spells them.
	Claims []string
}

// outcome is how a call was answered.
type outcome uint8

const (
	open outcome = iota // no answer yet: the same as unknown
	acknowledged
	conflict
	unknown
)

// call is one append. intents[first:first+n] are its events.
type call struct {
	invoked, settled uint64
	first, n         uint32
	client, why      uint32
	log              uint16
	outcome          outcome
}

// intent is an Intent as it is kept, with where it was acknowledged. A million
// take 56 MB.
type intent struct {
	id, stream uuid.UUID
	version    uint64
	sequence   uint64 // acknowledged; 0 if it was not, or if that was not told
	call       uint32
	typ        uint16
	partition  uint16 // acknowledged
}

// Call is an append under way. It is settled once.
type Call struct {
	recorder *Recorder
	number   int // in recorder.calls
}

// Invoke notes that a client asks for one append: all of its events or none. A
// request that the server cuts into several appends is as many calls.
func (r *Recorder) Invoke(client string, log string, intents ...Intent) *Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(intents) == 0 {
		r.misuse("a call by %s asks for nothing", client)
	}
	number := r.calls.len()
	r.calls.add(call{
		invoked: r.tick(), first: uint32(r.intents.len()), n: uint32(len(intents)), //nolint:gosec // memory ends before the range does
		client: r.clients.number(client), log: r.small(&r.logs, log),
	})
	for i := range intents {
		r.intents.add(intent{call: uint32(number)}) //nolint:gosec // as above
		r.set(r.intents.len()-1, intents[i])
	}
	r.counts.Calls++
	r.counts.Events += len(intents)
	return &Call{recorder: r, number: number}
}

// set keeps what is known of an intent.
func (r *Recorder) set(at int, in Intent) {
	kept := r.intents.at(at)
	kept.id, kept.stream, kept.version, kept.typ = in.ID, in.Stream, in.Version, r.small(&r.types, in.Type)
	delete(r.claims, uint32(at)) //nolint:gosec // as above
	if len(in.Claims) > 0 {
		r.claims[uint32(at)] = append([]string(nil), in.Claims...) //nolint:gosec // as above
	}
}

// Learn replaces the call's intents by what the answer told of them: the IDs,
// streams or versions that only the server could know. It comes before
// Acknowledge, with as many intents as Invoke had.
func (c *Call) Learn(intents ...Intent) {
	r := c.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.calls.at(c.number)
	if kept.outcome != open || len(intents) != int(kept.n) {
		r.misuse("call %d was settled before it learned, or learns of %d events where it has %d", c.number+1, len(intents), kept.n)
		return
	}
	for i := range intents {
		r.set(int(kept.first)+i, intents[i])
	}
}

// Acknowledge notes that the append is durable, with one position per intent, in
// their order. Without any, or where one has the sequence 0, the client was told
// that it is durable and not where.
func (c *Call) Acknowledge(at ...events.Position) {
	r := c.recorder
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.settle(c, acknowledged, "")
	if kept == nil || len(at) == 0 {
		return
	}
	if len(at) != int(kept.n) {
		r.misuse("call %d is acknowledged at %d positions, it has %d events", c.number+1, len(at), kept.n)
		return
	}
	for i, p := range at {
		if p.Partition < 0 || p.Partition > math.MaxUint16 {
			r.misuse("call %d is acknowledged in partition %d, want 0 to %d", c.number+1, p.Partition, math.MaxUint16)
			return
		}
		in := r.intents.at(int(kept.first) + i)
		in.partition, in.sequence = uint16(p.Partition), p.Sequence
	}
}

// Conflict notes that the append was refused for certain: nothing of it may ever
// be in the log.
func (c *Call) Conflict(why string) {
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	c.recorder.settle(c, conflict, why)
}

// Unknown notes that the append may or may not be in the log, all of it or none:
// a 503, a timeout, a connection that was cut. The client may Invoke the same IDs
// again. A call that is never settled counts as unknown, too.
func (c *Call) Unknown(why string) {
	c.recorder.mu.Lock()
	defer c.recorder.mu.Unlock()
	c.recorder.settle(c, unknown, why)
}

// settle notes a call's outcome. It returns nil if it had one.
func (r *Recorder) settle(c *Call, o outcome, why string) *call {
	kept := r.calls.at(c.number)
	if kept.outcome != open {
		r.misuse("call %d is settled twice", c.number+1)
		return nil
	}
	kept.outcome, kept.settled = o, r.tick()
	if o != acknowledged {
		if len(r.reasons.list) >= mostReasons {
			why = otherReason
		}
		kept.why = r.reasons.number(why)
	}
	switch o {
	case acknowledged:
		r.counts.Acknowledged += int(kept.n)
	case conflict:
		r.counts.Conflicts += int(kept.n)
	default:
		r.counts.Unknown += int(kept.n)
	}
	return kept
}

// Exclusive says that the recorder is told of everybody who writes events of
// these types, or of any type if none is named, to the log. From then on such an
// event that nobody asked for is Unasked.
func (r *Recorder) Exclusive(log string, types ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	of := make(map[string]bool)
	for _, t := range types {
		of[t] = true
	}
	r.exclusive[log] = of
}

// Counts is how much was recorded. Calls counts calls, everything else events: one
// that is asked for in two calls counts in both.
type Counts struct {
	Calls        int `json:"calls"`
	Events       int `json:"events"` // asked for
	Acknowledged int `json:"acknowledged"`
	Conflicts    int `json:"conflicts"`
	Unknown      int `json:"unknown"` // without calls that have no answer yet
	Deliveries   int `json:"deliveries"`
}

// Counts tells how much was recorded so far.
func (r *Recorder) Counts() Counts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.counts
}

func (r *Recorder) tick() uint64 {
	r.clock++
	return r.clock
}

// small is a name's number where few names can be.
func (r *Recorder) small(of *names, name string) uint16 {
	n := of.number(name)
	if n > math.MaxUint16 {
		r.misuse("more than %d names of logs or types", math.MaxUint16)
		return 0
	}
	return uint16(n)
}

// misuse keeps the first mistake of whoever records, for Check to return.
func (r *Recorder) misuse(format string, args ...any) {
	if r.fault == nil {
		r.fault = fmt.Errorf("history: "+format, args...)
	}
}

// names gives numbers to strings that come again and again.
type names struct {
	of   map[string]uint32
	list []string
}

func (n *names) number(name string) uint32 {
	i, known := n.of[name]
	if !known {
		if n.of == nil {
			n.of = make(map[string]uint32)
		}
		i = uint32(len(n.list)) //nolint:gosec // memory ends before the range does
		n.of[name] = i
		n.list = append(n.list, name)
	}
	return i
}

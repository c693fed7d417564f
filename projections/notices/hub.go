package notices

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/projections/views"
)

// Group is the name under which a hub's subscription is shown. It is each
// instance's own.
const Group = "notices"

// Hub is what streams are opened at. It is safe for concurrent use.
type Hub struct {
	cfg     Config
	sub     *subscription.Subscription
	rereads chan struct{} // holds one for each that reads in the log

	mu       sync.Mutex
	position Place // handed over up to here
	recent   []recent
	missing  int           // partitions whose beginning is not known yet
	begun    chan struct{} // closed once none is
	opened   chan struct{} // closed, and made anew, when there is a stream where there was none
	streams  map[uuid.UUID][]*Stream
	open     int
	stats    Stats
}

// Stats counts what a hub has done.
type Stats struct {
	Open                        int
	Told, Cut, Refused, Resumed uint64
	// Reread is how many streams were resumed by reading in the log, and Reset how
	// many could not be resumed.
	Reread, Reset uint64
}

// New makes a hub. It does no I/O.
func New(cfg Config) (*Hub, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	n := cfg.Log.Partitions()
	h := &Hub{cfg: cfg, rereads: make(chan struct{}, maxRereads),
		position: make(Place, n), recent: make([]recent, n), missing: n,
		begun: make(chan struct{}), opened: make(chan struct{}), streams: make(map[uuid.UUID][]*Stream)}
	follow := subscription.Config{Log: cfg.Log, Group: Group, Handler: h.handle, Logger: cfg.Logger, Clock: cfg.Clock,
		Ledger: &beginning{Ledger: subscription.NewMemory(), hub: h}}
	if cfg.Follow != nil {
		bus, err := cfg.Follow("") // each instance needs every message
		if err != nil {
			return nil, fmt.Errorf("follow the activity log: %w", err)
		}
		follow.Bus = listening{bus, h}
	}
	h.sub = subscription.New(follow)
	return h, nil
}

// Run follows the log until ctx ends.
func (h *Hub) Run(ctx context.Context) error { return h.sub.Run(ctx) }

// Subscription is how the hub follows the log.
func (h *Hub) Subscription() *subscription.Subscription { return h.sub }

// Stats is how things stand.
func (h *Hub) Stats() Stats {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.stats
	s.Open = h.open
	return s
}

// beginning is a ledger that begins at the log's present end.
type beginning struct {
	subscription.Ledger
	hub *Hub

	mu    sync.Mutex
	known map[int]bool
}

// Load implements subscription.Checkpoints.
func (b *beginning) Load(ctx context.Context, at subscription.Place) (subscription.Checkpoint, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.known[at.Partition] {
		return b.Ledger.Load(ctx, at)
	}
	head, err := b.hub.cfg.Log.Head(ctx, at.Partition)
	if err != nil {
		return subscription.Checkpoint{}, err
	}
	if b.known == nil {
		b.known = make(map[int]bool)
	}
	b.known[at.Partition] = true
	b.hub.beginAt(at.Partition, head)
	return subscription.Checkpoint{Place: at, Sequence: head}, nil
}

func (h *Hub) beginAt(partition int, head uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.position[partition] = head
	h.recent[partition].after = head
	if h.missing--; h.missing == 0 {
		close(h.begun)
	}
}

// handle is a subscription.Handler.
func (h *Hub) handle(ctx context.Context, b subscription.Batch) error {
	facts := h.read(b.Events)
	known := make(map[views.Pair]views.Bond)
	for {
		asked := h.deliver(b, facts, known)
		if len(asked) == 0 {
			return nil
		}
		if err := h.cfg.Settled(ctx, b.Partition, b.Last); err != nil {
			return err
		}
		bonds, err := h.cfg.Bonds(ctx, asked)
		if err != nil {
			return err
		}
		for i, p := range asked {
			known[p] = bonds[i]
		}
	}
}

func (h *Hub) read(list []events.Recorded) []fact {
	var facts []fact
	for i := range list {
		f, ok, err := factOf(&list[i])
		if err != nil {
			// The read models park it; nobody can be told of it.
			h.cfg.Logger.Warn("an activity that cannot be read is told to nobody", "event", list[i].ID, "error", err)
		}
		if ok {
			facts = append(facts, f)
		}
	}
	return facts
}

// deliver hands a batch over, if all bonds that it takes are known. Else it
// returns those that are not, and nothing has happened: streams may have been
// opened since the last call.
func (h *Hub) deliver(b subscription.Batch, facts []fact, known map[views.Pair]views.Bond) (unknown []views.Pair) {
	h.mu.Lock()
	defer h.mu.Unlock()
	// A batch may come again: what was handed over is not told twice for that.
	facts = slices.DeleteFunc(slices.Clone(facts), func(f fact) bool { return f.sequence <= h.position[b.Partition] })
	asked := make(map[views.Pair]bool)
	for i := range facts {
		f := &facts[i]
		for _, member := range [2]uuid.UUID{f.target, f.actor} {
			if !f.concerns(member) || len(h.streams[member]) == 0 {
				continue
			}
			p := f.pair(member)
			if _, ok := known[p]; !ok && !asked[p] {
				asked[p] = true
				unknown = append(unknown, p)
			}
		}
	}
	if len(unknown) > 0 {
		return unknown
	}
	h.position = slices.Clone(h.position) // the old one may have been given away
	for i := range facts {
		f := &facts[i]
		var after Place
		for _, member := range [2]uuid.UUID{f.target, f.actor} {
			if !f.concerns(member) || len(h.streams[member]) == 0 {
				continue
			}
			if after == nil {
				after = slices.Clone(h.position)
				after[b.Partition] = f.sequence
			}
			for _, n := range f.tell(member, known[f.pair(member)], after) {
				for _, s := range h.streams[member] {
					s.push(b.Partition, f.sequence, n)
				}
			}
		}
	}
	h.position[b.Partition] = max(h.position[b.Partition], b.Last)
	h.recent[b.Partition].add(facts)
	return nil
}

// recent is the latest facts of a partition: all of those after a sequence.
type recent struct {
	after uint64
	facts []fact
}

func (r *recent) add(facts []fact) {
	r.facts = append(r.facts, facts...)
	if len(r.facts) > 2*maxRecent {
		drop := len(r.facts) - maxRecent
		r.after = r.facts[drop-1].sequence
		r.facts = slices.Clone(r.facts[drop:])
	}
}

// Open opens a stream of what concerns a member, from now on or, if after is not
// nil, from there on.
func (h *Hub) Open(ctx context.Context, member uuid.UUID, after Place) (*Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, resumeTimeout)
	defer cancel()
	select {
	case <-h.begun:
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: it is not known yet where the log stands: %w", ErrUnavailable, ctx.Err())
	}
	s, from, err := h.enter(member)
	if err != nil || after == nil {
		return s, err
	}
	if err := h.resume(ctx, s, after, from); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// enter opens a stream that begins where the hub is.
func (h *Hub) enter(member uuid.UUID) (*Stream, Place, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.open >= MaxStreams:
		h.stats.Refused++
		return nil, nil, ErrFull
	case len(h.streams[member]) >= MaxStreamsOfOne:
		h.stats.Refused++
		return nil, nil, ErrTooMany
	}
	s := &Stream{hub: h, member: member, ready: make(chan struct{}, 1)}
	h.streams[member] = append(h.streams[member], s)
	if h.open++; h.open == 1 {
		close(h.opened)
		h.opened = make(chan struct{})
	}
	return s, h.position, nil
}

// span is what a stream has missed of a partition: after from, up to to.
type span struct {
	partition int
	from, to  uint64
}

// resume gives a stream what its member has missed between after and here.
func (h *Hub) resume(ctx context.Context, s *Stream, after, here Place) error {
	if len(after) != len(here) {
		return h.reset(s, here)
	}
	var missed []span
	for p := range here {
		if after[p] < here[p] {
			missed = append(missed, span{p, after[p], here[p]})
		}
		if after[p] <= here[p] {
			continue
		}
		// Another instance was ahead of this one, or the place is none of this log.
		head, err := h.cfg.Log.Head(ctx, p)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if after[p] > head {
			return h.reset(s, here)
		}
	}
	s.known(after)
	found, err := h.missed(ctx, s.member, missed)
	if errors.Is(err, errTooFar) {
		return h.reset(s, here)
	}
	if err != nil {
		return err
	}
	notices, err := h.tellAll(ctx, s.member, missed, found, after)
	if errors.Is(err, errTooFar) {
		return h.reset(s, here)
	}
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.Resumed++
	s.backlog = notices
	s.wake()
	return nil
}

// reset tells a stream that it goes on from here and what was before is lost.
func (h *Hub) reset(s *Stream, here Place) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stats.Reset++
	s.backlog = []Notice{{Kind: Reset, After: here}}
	s.wake()
	return nil
}

// errTooFar says that a stream has missed more than it can be given.
var errTooFar = errors.New("the place is too far back")

// missing is a fact with its partition.
type missing struct {
	fact
	partition int
}

// missed finds what concerns a member in the spans: in memory as far as it
// reaches, else in the log.
func (h *Hub) missed(ctx context.Context, member uuid.UUID, spans []span) ([]missing, error) {
	var found []missing
	var far []span
	h.mu.Lock()
	for _, sp := range spans {
		r := &h.recent[sp.partition]
		if sp.from < r.after {
			far = append(far, span{sp.partition, sp.from, min(sp.to, r.after)})
		}
		for i := range r.facts {
			if f := &r.facts[i]; f.sequence > sp.from && f.sequence <= sp.to && f.concerns(member) {
				found = append(found, missing{*f, sp.partition})
			}
		}
	}
	if len(far) > 0 {
		h.stats.Reread++
	}
	h.mu.Unlock()
	if len(far) == 0 {
		return found, nil
	}
	total := uint64(0)
	for _, sp := range far {
		total += sp.to - sp.from
	}
	if total > maxReread {
		return nil, errTooFar
	}
	select {
	case h.rereads <- struct{}{}:
		defer func() { <-h.rereads }()
	case <-ctx.Done():
		return nil, ErrFull
	}
	for _, sp := range far {
		more, err := h.reread(ctx, member, sp)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return found, nil
}

func (h *Hub) reread(ctx context.Context, member uuid.UUID, sp span) (found []missing, err error) {
	for c, err := range h.cfg.Log.Read(ctx, sp.partition, sp.from) {
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		for e := range c.EventsAfter(sp.from) {
			if e.Sequence > sp.to {
				return found, nil
			}
			if f, ok, err := factOf(&e); err == nil && ok && f.concerns(member) {
				if found = append(found, missing{f, sp.partition}); len(found) > maxResumed {
					return nil, errTooFar
				}
			}
		}
	}
	return found, nil
}

// tellAll makes notices of what was missed, in the order in which it was recorded.
func (h *Hub) tellAll(ctx context.Context, member uuid.UUID, spans []span, found []missing, from Place) ([]Notice, error) {
	if len(found) == 0 {
		return nil, nil
	}
	if len(found) > maxResumed {
		return nil, errTooFar
	}
	for _, sp := range spans {
		if err := h.cfg.Settled(ctx, sp.partition, sp.to); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
	}
	// In a partition that is the order of its sequences.
	slices.SortFunc(found, func(a, b missing) int {
		return cmp.Or(cmp.Compare(a.recorded, b.recorded), cmp.Compare(a.partition, b.partition), cmp.Compare(a.sequence, b.sequence))
	})
	pairs := make([]views.Pair, len(found))
	for i := range found {
		pairs[i] = found[i].pair(member)
	}
	bonds, err := h.cfg.Bonds(ctx, pairs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	var out []Notice
	at := from
	for i := range found {
		at = slices.Clone(at)
		at[found[i].partition] = found[i].sequence
		out = append(out, found[i].tell(member, bonds[i], at)...)
	}
	return out, nil
}

// Stream is what concerns one member. One goroutine reads it.
type Stream struct {
	hub    *Hub
	member uuid.UUID
	ready  chan struct{}

	// All below is guarded by the hub's lock.
	backlog []Notice // what was missed; it comes before what waits
	waiting []Notice
	ahead   Place // where the reader was ahead of the hub when it came; nil if nowhere
	cut     bool
	closed  bool
	matched [4]matchKey // told last
	next    int
}

// matchKey is a match: a later one of the same two has another time.
type matchKey struct {
	user uuid.UUID
	at   int64
}

// Ready gets a value when there is something to take.
func (s *Stream) Ready() <-chan struct{} { return s.ready }

// Take returns the notices that wait, and where the stream has come with them. It
// returns ErrCut once the reader was too slow.
func (s *Stream) Take() ([]Notice, Place, error) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	if s.cut {
		return nil, nil, ErrCut
	}
	out := s.backlog
	if len(out) == 0 {
		out = s.waiting
	} else {
		out = append(out, s.waiting...)
	}
	s.backlog, s.waiting = nil, nil
	s.hub.stats.Told += uint64(len(out))
	return out, s.place(s.hub.position), nil
}

// Close ends the stream. Again does no harm.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	h.open--
	all := h.streams[s.member]
	if i := slices.Index(all, s); i >= 0 {
		all = slices.Delete(all, i, i+1)
	}
	if h.streams[s.member] = all; len(all) == 0 {
		delete(h.streams, s.member)
	}
}

// known notes where the reader is ahead of the hub: that is not told again.
func (s *Stream) known(after Place) {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	for p := range after {
		if after[p] > s.hub.position[p] {
			s.ahead = after
			return
		}
	}
}

// place is where the reader has come with a hub that is at p.
func (s *Stream) place(p Place) Place {
	if s.ahead == nil {
		return p
	}
	behind := false
	out := slices.Clone(p)
	for i := range p {
		if s.ahead[i] > p[i] {
			out[i], behind = s.ahead[i], true
		}
	}
	if !behind {
		s.ahead = nil
	}
	return out
}

// push adds a notice of an event. The hub's lock is held.
func (s *Stream) push(partition int, sequence uint64, n Notice) {
	if s.cut || s.ahead != nil && sequence <= s.ahead[partition] {
		return
	}
	if n.Kind == Match {
		// Of two likes that come at once, each sees the other.
		key := matchKey{n.User, n.At.UnixMicro()}
		if slices.Contains(s.matched[:], key) {
			return
		}
		s.matched[s.next] = key
		s.next = (s.next + 1) % len(s.matched)
	}
	if len(s.waiting) >= maxWaiting {
		s.cut, s.waiting, s.backlog = true, nil, nil
		s.hub.stats.Cut++
	} else {
		n.After = s.place(n.After)
		s.waiting = append(s.waiting, n)
	}
	s.wake()
}

func (s *Stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

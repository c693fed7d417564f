package queue

import (
	"bytes"
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Register is all backtests that are still of interest, folded from the fraud log.
// It is safe for concurrent use.
type Register struct {
	clock   func() time.Time
	changed chan struct{} // holds a token once something has changed

	mu   sync.Mutex
	byID map[uuid.UUID]*Backtest
	held map[uuid.UUID]hold // what this process works on
}

// hold is an instance's hold on a backtest, and what to do when it is lost.
type hold struct {
	instance uuid.UUID
	lost     func()
}

// NewRegister makes an empty register.
func NewRegister(clock func() time.Time) *Register {
	return &Register{clock: clock, changed: make(chan struct{}, 1), byID: make(map[uuid.UUID]*Backtest), held: make(map[uuid.UUID]hold)}
}

// Apply folds in an event of the fraud log; those that are about no backtest, or
// about one that is no longer of interest, change nothing.
func (r *Register) Apply(e events.Recorded) error {
	if !isAbout(e.Type) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	b := r.byID[e.Stream]
	if b == nil {
		if e.Type != events.BacktestRequested {
			return nil
		}
		b = new(Backtest)
	}
	if err := b.Apply(e); err != nil {
		return err
	}
	if b.Removed {
		delete(r.byID, e.Stream)
	} else {
		r.byID[e.Stream] = b
	}
	if h, ok := r.held[e.Stream]; ok && (b.State != Running || b.Instance != h.instance) {
		h.lost()
	}
	r.forget()
	select {
	case r.changed <- struct{}{}:
	default:
	}
	return nil
}

// forget drops those that ended long ago, or before many others. A later event of
// one of them finds it unknown, as it should.
func (r *Register) forget() {
	var ended []*Backtest
	before := r.clock().Add(-Keep)
	for id, b := range r.byID {
		switch {
		case !b.State.Ended():
		case b.EndedAt.Before(before):
			delete(r.byID, id)
		default:
			ended = append(ended, b)
		}
	}
	if len(ended) <= MaxKept {
		return
	}
	slices.SortFunc(ended, func(a, b *Backtest) int { return b.EndedAt.Compare(a.EndedAt) })
	for _, b := range ended[MaxKept:] {
		delete(r.byID, b.ID)
	}
}

// Get returns a backtest, and how many wait before it if it is queued.
func (r *Register) Get(id uuid.UUID) (b Backtest, before int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	found := r.byID[id]
	if found == nil {
		return Backtest{}, 0, false
	}
	for _, other := range r.byID {
		if other.State == Queued && oldest(other, found) < 0 {
			before++
		}
	}
	return *found, before, true
}

// Place is a backtest's place in the list.
type Place struct {
	At time.Time `json:"at"`
	ID uuid.UUID `json:"id"`
}

// List returns up to limit, the newest first, after a place unless that is zero,
// and where the next page begins, nil if there is none.
func (r *Register) List(after Place, limit int) (page []Backtest, next *Place) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget()
	last := &Backtest{ID: after.ID, RequestedAt: after.At}
	for _, b := range r.byID {
		if after == (Place{}) || oldest(b, last) < 0 {
			page = append(page, *b)
		}
	}
	slices.SortFunc(page, func(a, b Backtest) int { return oldest(&b, &a) })
	if len(page) > limit {
		page = page[:limit]
		next = &Place{At: page[limit-1].RequestedAt, ID: page[limit-1].ID}
	}
	return page, next
}

// Waiting is how many are queued.
func (r *Register) Waiting() int {
	queued, _ := r.Counts()
	return queued
}

// Counts is how many are queued, and how many an instance works on or was lost with.
func (r *Register) Counts() (queued, running int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.byID {
		switch b.State {
		case Queued:
			queued++
		case Running:
			running++
		}
	}
	return queued, running
}

// next is the one to take next: the oldest that nobody works on.
func (r *Register) next() (Backtest, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var first *Backtest
	now := r.clock()
	for _, b := range r.byID {
		if b.free(now) && (first == nil || oldest(b, first) < 0) {
			first = b
		}
	}
	if first == nil {
		return Backtest{}, false
	}
	return *first, true
}

// watch has lost called when the instance no longer has the backtest, until the
// returned function is called.
func (r *Register) watch(id, instance uuid.UUID, lost func()) (stop func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held[id] = hold{instance, lost}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.held, id)
	}
}

// oldest orders by request.
func oldest(a, b *Backtest) int {
	return cmp.Or(a.RequestedAt.Compare(b.RequestedAt), bytes.Compare(a.ID[:], b.ID[:]))
}

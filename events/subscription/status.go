package subscription

import (
	"context"
	"math"
	"time"
)

const (
	// stallAfter is how long a partition may stand still behind its head before it
	// counts as stalled. With what it takes to see that the head moved, that is
	// less than ten seconds.
	stallAfter = 6 * time.Second
	// rateOver is the time over which the rate is averaged.
	rateOver = 10 * time.Second
	// watchEvery is how often heads are looked at beside the handlers, which may
	// hang, and rates are taken.
	watchEvery = time.Second
)

// Status is how a subscription stands in one partition.
type Status struct {
	Place
	// Position is the last event worked through, Head the last known to exist.
	Position uint64 `json:"position"`
	Head     uint64 `json:"head"`
	// Lag is how many events lie between; LagSeconds how long ago the first of
	// them was recorded, as far as it is known.
	Lag        uint64  `json:"lag"`
	LagSeconds float64 `json:"lag_seconds"`
	// Rate is how many events a second were handled over about the last ten.
	Rate float64 `json:"rate"`
	// Heartbeat is when the subscription last looked or worked.
	Heartbeat time.Time `json:"heartbeat"`
	// Failures counts the calls that failed in a row, Failure says which, and
	// Detail what was wrong. Detail may name hosts: it is not for everybody.
	Failures int    `json:"failures"`
	Failure  string `json:"failure,omitempty"`
	Detail   string `json:"detail,omitempty"`
	// Parked is how many events are parked.
	Parked int `json:"parked"`
	// Stalled says that it has stood still behind its head for 6 seconds.
	Stalled bool `json:"stalled"`
	// CaughtUp says that it was at the log's head once since it started.
	CaughtUp bool `json:"caught_up"`
}

// Status tells how each partition stands.
func (s *Subscription) Status() []Status {
	now := s.cfg.Clock()
	out := make([]Status, len(s.parts))
	for i, f := range s.parts {
		f.mu.Lock()
		out[i] = f.state.status(f.at, now)
		f.mu.Unlock()
	}
	return out
}

// watch looks at heads beside the handlers, so that one that hangs shows.
func (s *Subscription) watch(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, f := range s.parts {
			f.watch(ctx)
		}
	}
}

func (f *follower) watch(ctx context.Context) {
	f.mu.Lock()
	now := f.cfg.Clock()
	f.state.measure(now)
	silent := now.Sub(f.state.beat) > max(watchEvery, 2*f.cfg.Idle)
	f.mu.Unlock()
	if !silent {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, watchEvery)
	defer cancel()
	// That a head cannot be read is told by whoever needs it.
	if head, err := f.cfg.Log.Head(ctx, f.at.Partition); err == nil {
		f.mu.Lock()
		f.state.sawHead(head, f.cfg.Clock())
		f.mu.Unlock()
	}
}

// state is how a follower stands. Its follower guards it.
type state struct {
	position, head uint64
	beat           time.Time
	// stillAt is since when the position has stood behind the head; zero if it
	// does not.
	stillAt time.Time
	// oldest is when the first event that is not worked through was recorded, if
	// it has been read.
	oldest   time.Time
	caughtUp bool
	parked   int

	handled    uint64 // events, ever
	measured   uint64 // handled, when the rate was last measured
	measuredAt time.Time
	rate       float64

	faults map[string]fault // by what fails
}

// fault is a row of failures.
type fault struct {
	row    int
	detail string
}

func (s *state) sawHead(head uint64, now time.Time) {
	s.head = max(s.head, head)
	if s.head > s.position && s.stillAt.IsZero() {
		s.stillAt = now
	}
}

func (s *state) advance(position uint64, handled int, now time.Time) {
	s.position, s.head = position, max(s.head, position)
	s.handled += uint64(handled) //nolint:gosec // a length
	s.beat, s.oldest, s.stillAt = now, time.Time{}, time.Time{}
	if s.position < s.head {
		s.stillAt = now
	}
}

// measure takes the rate, averaged exponentially over rateOver.
func (s *state) measure(now time.Time) {
	passed := now.Sub(s.measuredAt).Seconds()
	if s.measuredAt.IsZero() || passed <= 0 {
		s.measured, s.measuredAt = s.handled, now
		return
	}
	share := 1 - math.Exp(-passed/rateOver.Seconds())
	s.rate += share * (float64(s.handled-s.measured)/passed - s.rate)
	if s.rate < 0.01 {
		s.rate = 0
	}
	s.measured, s.measuredAt = s.handled, now
}

// noted returns how often in a row it has failed; 0 if it went well.
func (s *state) noted(what string, err error) int {
	if err == nil {
		delete(s.faults, what)
		return 0
	}
	if s.faults == nil {
		s.faults = make(map[string]fault)
	}
	row := s.faults[what].row + 1
	s.faults[what] = fault{row, err.Error()}
	return row
}

// worst is what has failed most often in a row.
func (s *state) worst() (what string, worst fault) {
	for w, f := range s.faults {
		if f.row > worst.row || f.row == worst.row && w < what {
			what, worst = w, f
		}
	}
	return what, worst
}

func (s *state) checkpoint(at Place) Checkpoint {
	what, _ := s.worst()
	return Checkpoint{Place: at, Sequence: s.position, At: s.beat.UTC().Truncate(time.Microsecond), Rate: math.Round(s.rate*100) / 100, Failure: what}
}

func (s *state) status(at Place, now time.Time) Status {
	what, worst := s.worst()
	st := Status{
		Place: at, Position: s.position, Head: s.head, Lag: s.head - s.position,
		Rate: math.Round(s.rate*100) / 100, Heartbeat: s.beat,
		Failures: worst.row, Failure: what, Detail: worst.detail,
		Parked: s.parked, CaughtUp: s.caughtUp,
	}
	if st.Lag > 0 {
		since := s.oldest
		if since.IsZero() {
			since = s.stillAt
		}
		st.LagSeconds = max(0, now.Sub(since).Seconds())
		st.Stalled = now.Sub(s.stillAt) >= stallAfter
	}
	return st
}

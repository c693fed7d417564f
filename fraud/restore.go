package fraud

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/fraud/engine"
	"github.com/meet5/backend/fraud/rule"
)

// origin is what a partition has started from.
type origin string

const (
	fromSnapshot origin = "snapshot"
	// The rest are why all of history is read.
	fromNothing    origin = "none"       // there is no snapshot
	fromUnreadable origin = "unreadable" // the disk says
	fromDamaged    origin = "damaged"
	fromOtherBuild origin = "build"
	fromOtherLog   origin = "log"
	fromAhead      origin = "ahead" // the log ends before it
	fromOtherRules origin = "rules"
	// It is not on record that the flags up to it are raised.
	fromUnraised origin = "unraised"
	// A version of a rule that runs no more has flags to raise yet.
	fromPast origin = "past"
)

// unusableError says why a snapshot is not used.
type unusableError struct {
	origin origin
	why    string
}

func (e *unusableError) Error() string { return e.why }

func unusable(o origin, why string, with ...any) error {
	return &unusableError{o, fmt.Sprintf(why, with...)}
}

// askedForEvent is how often the log is asked for the event of a snapshot, once a second,
// before all of history is read.
const askedForEvent = 3

// restore has lanes that are about to start go on from their snapshots, those that have
// one that can be used: it is whole, of this log and of the rules that run, and nothing
// is left to do of what it stands for. Of the others the log says why not. An error is
// ctx's.
func (s *snapshotter) restore(ctx context.Context, lanes []*lane) error {
	shots, origins := make([]shot, len(lanes)), make([]origin, len(lanes))
	begun := s.clock()
	var all sync.WaitGroup
	for i, l := range lanes {
		shots[i].at, origins[i] = begun, fromNothing
		if s.store == nil {
			continue
		}
		all.Go(func() {
			taken, err := s.restoreLane(ctx, l)
			if err == nil {
				shots[i], origins[i] = taken, fromSnapshot
				return
			}
			if errors.Is(err, fs.ErrNotExist) || ctx.Err() != nil {
				return
			}
			origins[i] = fromUnreadable
			if why, ok := errors.AsType[*unusableError](err); ok {
				origins[i] = why.origin
			}
			s.logger.WarnContext(ctx, "a snapshot is not used, and the history read instead",
				"partition", i, "reason", origins[i], "error", err)
		})
	}
	all.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	events, partitions := uint64(0), 0
	for i, l := range lanes {
		s.starts.WithLabelValues(string(origins[i])).Inc()
		if origins[i] != fromSnapshot {
			continue
		}
		// The subscription begins behind it.
		if err := s.ledger.Save(ctx, subscription.Checkpoint{Place: l.at, Sequence: l.handled, At: begun}); err != nil {
			return err
		}
		events += l.handled
		partitions++
	}
	if partitions > 0 {
		s.logger.InfoContext(ctx, "the rules' state is restored from snapshots",
			"partitions", partitions, "of", len(lanes), "events", events, "took", s.clock().Sub(begun))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shots, s.origins = shots, origins
	return nil
}

// restoreLane changes nothing about the lane unless it succeeds.
func (s *snapshotter) restoreLane(ctx context.Context, l *lane) (shot, error) {
	file, err := s.store.Read(snapshotName(l.at))
	if err != nil {
		return shot{}, err
	}
	defer file.Close()
	from := &interruptible{ctx: ctx, in: file}
	header, size, err := readSnapshotHeader(from)
	if err != nil {
		return shot{}, err
	}
	if err := s.fits(ctx, l, header); err != nil {
		return shot{}, err
	}
	var rules []rule.Rule
	for _, r := range l.crew[0].engine.Rules() {
		rules = append(rules, r.Rule)
	}
	g, err := engine.NewByActor(s.users, rules)
	if err != nil {
		return shot{}, err
	}
	switch err := g.Restore(from); {
	case errors.Is(err, engine.ErrSnapshot):
		return shot{}, unusable(fromDamaged, "what it has of the engine: %v", err)
	case err != nil:
		return shot{}, err
	case g.Last() != header.Sequence || g.Stats().Events != header.Sequence:
		return shot{}, unusable(fromDamaged, "its parts do not belong together")
	}
	l.crew[0].engine, l.handled = g, header.Sequence
	for i := range header.Rules {
		r := &header.Rules[i]
		t := l.program.tallies[r.ID]
		t.add(r.count(l.at.Partition))
		*l.share(r.ID) = share{r.Evaluations, r.Hits}
		s.figures.hits.WithLabelValues(r.ID, string(t.rule.Mode)).Add(float64(r.Hits))
	}
	return shot{sequence: header.Sequence, at: header.TakenAt, bytes: size + from.read}, nil
}

// fits says why a snapshot is of no use to a lane that is about to start.
func (s *snapshotter) fits(ctx context.Context, l *lane, h snapshotHeader) error {
	if h.Log != l.at.Log || h.Partitions != s.activity.Partitions() || h.Partition != l.at.Partition {
		return unusable(fromOtherLog, "it is of %s/%d of %d", h.Log, h.Partition, h.Partitions)
	}
	if h.Sequence > l.raised {
		return unusable(fromUnraised, "it stands at %d, and flags are on record as raised up to %d", h.Sequence, l.raised)
	}
	rules := l.crew[0].engine.Rules()
	if len(h.Rules) != len(rules) {
		return unusable(fromOtherRules, "it is of %d rules, and %d run", len(h.Rules), len(rules))
	}
	for i, r := range rules {
		if h.Rules[i].ID != r.ID || h.Rules[i].Version != r.Version {
			return unusable(fromOtherRules, "rule %s in version %s was not among those it is of", r.ID, r.Version)
		}
	}
	if len(l.crew) > 1 {
		return unusable(fromPast, "past versions of rules have flags to raise yet")
	}
	e, err := s.eventAt(ctx, events.Position{Partition: l.at.Partition, Sequence: h.Sequence})
	switch {
	case errors.Is(err, log.ErrNotFound):
		return unusable(fromAhead, "it stands at %d, and the log ends before", h.Sequence)
	case err != nil:
		return err
	case e.ID != h.Event:
		return unusable(fromOtherLog, "it is of a log whose event at %d is another", h.Sequence)
	}
	return nil
}

// eventAt is patient with a log that does not answer, not for ever: a partition of which
// nothing can be read must not keep the others from starting.
func (s *snapshotter) eventAt(ctx context.Context, at events.Position) (e events.Recorded, err error) {
	for try := 1; ; try++ {
		e, err = log.Get(ctx, s.activity, at)
		if err == nil || errors.Is(err, log.ErrNotFound) || try == askedForEvent || !sleep(ctx, time.Second) {
			return e, err
		}
	}
}

// interruptible is a reader that ends with ctx, and counts.
type interruptible struct {
	ctx  context.Context
	in   io.Reader
	read int
}

// Read implements io.Reader.
func (r *interruptible) Read(b []byte) (n int, err error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	n, err = r.in.Read(b)
	r.read += n
	return n, err
}

package fraud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
)

const (
	// MaxBulk is how many flags one bulk operation decides on at most, so that it
	// fits into one commit.
	MaxBulk = 1000
	// MaxBulkNote is the longest note of a bulk operation, in characters. Every
	// flag's history has a copy.
	MaxBulkNote = 500
)

// bulk is a bulk operation: what was asked, and what came of it.
type bulk struct {
	id uuid.UUID
	events.BulkDecision
	at     time.Time
	undo   *events.BulkUndo // nil while it stands
	undone time.Time
}

// errNoBulk is the 404 of a bulk operation that is not there.
var errNoBulk = problem.NotFound("there is no such bulk operation")

// errOtherThing is the 409 of a bulk operation's ID that is something else's.
var errOtherThing = problem.Conflict("the id is taken by something that is no bulk operation; choose another")

// readBulk reads a bulk operation from the log; ok is false if there is nothing
// under the ID, and the error errOtherThing if it is something else's.
func (s *Service) readBulk(ctx context.Context, id uuid.UUID) (b bulk, ok bool, err error) {
	stream, err := log.ReadStream(ctx, s.deps.Log, id)
	if err != nil {
		return bulk{}, false, unavailable(err)
	}
	b.id = id
	for _, e := range stream {
		switch e.Type {
		case events.BulkDecided:
			b.at = e.OccurredAt
			b.BulkDecision, err = events.Unmarshal[events.BulkDecision](e)
			ok = true
		case events.BulkUndone:
			b.undo, b.undone = new(events.BulkUndo), e.OccurredAt
			*b.undo, err = events.Unmarshal[events.BulkUndo](e)
		}
		if err != nil {
			return bulk{}, false, err
		}
	}
	if len(stream) > 0 && !ok {
		return bulk{}, false, errOtherThing
	}
	return b, ok, nil
}

// asks says whether two operations ask for the same, by the same moderator.
func (b *bulk) asks(other *bulk) bool {
	if b.By != other.By || b.Decision != other.Decision || b.Note != other.Note || !bytes.Equal(b.Filter, other.Filter) {
		return false
	}
	return len(b.Filter) > 0 || slices.Equal(b.names(), other.names())
}

// names are the flags that it is about, sorted.
func (b *bulk) names() []uuid.UUID {
	var ids []uuid.UUID
	for _, f := range b.Flags {
		ids = append(ids, f.Flag)
	}
	for _, r := range b.Refused {
		ids = append(ids, r.Flag)
	}
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// met is what a bulk operation has met of others' changes while it was at it.
type met struct {
	seen  map[uuid.UUID]uint64 // the version at which it first saw a flag
	taken map[uuid.UUID]uint64 // the version of a flag that it found taken
}

func newMet() *met {
	return &met{seen: make(map[uuid.UUID]uint64), taken: make(map[uuid.UUID]uint64)}
}

// changed says whether somebody has changed the flag since it was first seen.
func (m *met) changed(f flag.Flag) bool {
	first, known := m.seen[f.ID]
	if !known {
		first, m.seen[f.ID] = f.Version, f.Version
	}
	return f.Version != first || m.stuck(f)
}

// stuck says whether the log has a next event of the flag that the board does not
// have: one that cannot be read.
func (m *met) stuck(f flag.Flag) bool { return m.taken[f.ID] == f.Version+1 }

var errMeanwhile = fmt.Errorf("%w: somebody has changed the flag meanwhile", flag.ErrNotAllowed)

// plan decides on each of the flags as the board has them now, and refuses those
// that somebody was at since it first saw them.
func (s *Service) plan(b bulk, ids []uuid.UUID, m *met) (bulk, []events.Event, error) {
	b.Flags, b.Refused = []events.BulkFlag{}, []events.BulkRefusal{}
	decisions := make([]events.Event, 0, len(ids))
	for _, id := range ids {
		f, ok := s.board.Get(id)
		if !ok {
			b.Refused = append(b.Refused, events.BulkRefusal{Flag: id, Status: http.StatusNotFound, Detail: "there is no such flag"})
			continue
		}
		e, err := f.DecideInBulk(flag.Decision(b.Decision), b.By, b.Note, b.id, b.at)
		if m.changed(f) && err == nil {
			err = errMeanwhile
		}
		switch {
		case errors.Is(err, flag.ErrNotAllowed):
			b.Refused = append(b.Refused, refusal(id, err))
		case err != nil:
			return bulk{}, nil, err
		default:
			b.Flags = append(b.Flags, events.BulkFlag{Flag: id, Version: e.Version, Before: f.Standpoint()})
			decisions = append(decisions, e)
		}
	}
	return b, decisions, nil
}

func refusal(id uuid.UUID, err error) events.BulkRefusal {
	detail := strings.TrimPrefix(err.Error(), flag.ErrNotAllowed.Error()+": ")
	return events.BulkRefusal{Flag: id, Status: http.StatusConflict, Detail: detail}
}

// decideAll decides on the flags in one commit, without those that somebody else is
// quicker with.
func (s *Service) decideAll(ctx context.Context, asked bulk, ids []uuid.UUID) (bulk, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	m := newMet()
	for {
		if there, ok, err := s.readBulk(ctx, asked.id); err != nil || ok {
			return sameBulk(there, asked, ids, err)
		}
		done, evs, err := s.plan(asked, ids, m)
		if err != nil {
			return bulk{}, err
		}
		head, err := s.bulkEvent(events.BulkDecided, asked.id, 1, asked.at, done.BulkDecision)
		if err != nil {
			return bulk{}, err
		}
		if ok, err := s.appendAll(ctx, append([]events.Event{head}, evs...), m); err != nil || ok {
			return done, err
		}
	}
}

// sameBulk answers a request that comes again, provided that it is the same one.
func sameBulk(there, asked bulk, ids []uuid.UUID, err error) (bulk, error) {
	if err != nil {
		return bulk{}, err
	}
	for _, id := range ids {
		asked.Flags = append(asked.Flags, events.BulkFlag{Flag: id})
	}
	if !there.asks(&asked) {
		return bulk{}, problem.Conflict("another bulk operation has this id; choose another")
	}
	return there, nil
}

// undoAll takes back what a bulk operation has decided, in one commit, but for the
// flags that have moved on since.
func (s *Service) undoAll(ctx context.Context, id, by uuid.UUID, note string) (bulk, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	m := newMet()
	for {
		b, ok, err := s.readBulk(ctx, id)
		switch {
		case errors.Is(err, errOtherThing):
			return bulk{}, errNoBulk
		case err != nil:
			return bulk{}, err
		case !ok:
			return bulk{}, errNoBulk
		case b.undo != nil:
			return bulk{}, problem.Conflict("the bulk operation has been undone already, at " + b.undone.UTC().Format(time.RFC3339))
		}
		if err := s.catchUp(ctx); err != nil {
			return bulk{}, err
		}
		b.undone = s.deps.Clock()
		b.undo = &events.BulkUndo{By: by, Note: note, Flags: []uuid.UUID{}, Refused: []events.BulkRefusal{}}
		evs, err := s.planUndo(b, m)
		if err != nil {
			return bulk{}, err
		}
		head, err := s.bulkEvent(events.BulkUndone, id, 2, b.undone, b.undo)
		if err != nil {
			return bulk{}, err
		}
		if ok, err := s.appendAll(ctx, append([]events.Event{head}, evs...), m); err != nil || ok {
			return b, err
		}
	}
}

// planUndo makes the events that take the operation back, and says in b.undo for
// which flags there are any. A note or an assignment does not keep a flag from
// being taken back.
func (s *Service) planUndo(b bulk, m *met) (evs []events.Event, err error) {
	for _, left := range b.Flags {
		f, ok := s.board.Get(left.Flag)
		if !ok {
			return nil, fmt.Errorf("bulk operation %s: flag %s is not on the board", b.id, left.Flag)
		}
		e, err := f.Undo(flag.Decision(b.Decision), left, b.undo.By, b.undo.Note, b.id, b.undone)
		if err == nil && flag.State(left.Before.State).Stands() && !f.State.Stands() && s.board.Rival(f) {
			err = fmt.Errorf("%w: another flag of this user and rule stands by now", flag.ErrNotAllowed)
		}
		if err == nil && m.stuck(f) {
			err = errMeanwhile
		}
		switch {
		case errors.Is(err, flag.ErrNotAllowed):
			b.undo.Refused = append(b.undo.Refused, refusal(left.Flag, err))
		case err != nil:
			return nil, err
		default:
			b.undo.Flags = append(b.undo.Flags, left.Flag)
			evs = append(evs, e)
		}
	}
	return evs, nil
}

// bulkEvent makes an event of a bulk operation's own stream. Its ID is like no
// other's, so that of two requests for one operation the second meets a conflict.
func (s *Service) bulkEvent(eventType string, id uuid.UUID, version uint64, at time.Time, payload any) (events.Event, error) {
	data, err := json.Marshal(payload)
	if err != nil {
		return events.Event{}, fmt.Errorf("bulk operation %s: %w", id, err)
	}
	return events.Event{ID: s.deps.NewID(), Type: eventType, Stream: id, Version: version, OccurredAt: at, Data: data}, nil
}

// appendAll appends all the events. If somebody else was quicker with one of them
// it notes that, brings the board up to date, and says that nothing was written.
func (s *Service) appendAll(ctx context.Context, evs []events.Event, m *met) (written bool, err error) {
	_, err = s.deps.Log.Append(ctx, evs...)
	if conflict, ok := errors.AsType[*log.ConflictError](err); ok {
		for _, e := range evs[1:] {
			if e.ID == conflict.Event {
				m.taken[e.Stream] = e.Version
			}
		}
		return false, s.catchUp(ctx)
	}
	if err != nil {
		return false, unavailable(err)
	}
	return true, nil
}

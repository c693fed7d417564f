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

// bulk is a bulk operation: what was asked, and what came of it. A note is in the
// clear where it is asked for, or opened, and sealed as it is in the log.
type bulk struct {
	id uuid.UUID
	events.BulkDecision
	at     time.Time
	undo   *events.BulkUndo // nil while it stands
	undone time.Time
	// noteErased and undoNoteErased say that a note is gone with somebody whom it was
	// about.
	noteErased, undoNoteErased bool
}

// errNoBulk is the 404 of a bulk operation that is not there.
var errNoBulk = problem.NotFound("there is no such bulk operation")

// errOtherThing is the 409 of a bulk operation's ID that is something else's.
var errOtherThing = problem.Conflict("the id is taken by something that is no bulk operation; choose another")

// readBulk reads a bulk operation from the log, as it is there; ok is false if there is nothing
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

// openBulk opens the notes of an operation that was read from the log.
func (s *Service) openBulk(ctx context.Context, b *bulk) error {
	notes := []flag.Text{{Plain: b.Note, Sealed: b.Sealed}}
	if b.undo != nil {
		notes = append(notes, flag.Text{Plain: b.undo.Note, Sealed: b.undo.Sealed})
	}
	var users []uuid.UUID
	if slices.ContainsFunc(notes, func(t flag.Text) bool { return t.Plain != "" }) {
		if err := s.catchUp(ctx); err != nil { // it may be of another instance
			return err
		}
		users = s.usersOf(b.names())
	}
	o, err := s.texts.opener(ctx, b.id, users, notes...)
	if err != nil {
		return err
	}
	if b.Note, b.noteErased = o.open(notes[0]); b.undo != nil {
		b.undo.Note, b.undoNoteErased = o.open(notes[1])
	}
	return nil
}

// usersOf are the users whom flags are about, each once.
func (s *Service) usersOf(flags []uuid.UUID) (users []uuid.UUID) {
	seen := make(map[uuid.UUID]bool)
	for _, id := range flags {
		if f, ok := s.board.Get(id); ok && !seen[f.User] {
			seen[f.User] = true
			users = append(users, f.User)
		}
	}
	return users
}

// asks says whether two operations ask for the same, by the same moderator. What an
// erased note said, nobody knows.
func (b *bulk) asks(other *bulk) bool {
	if b.By != other.By || b.Decision != other.Decision || !b.noteErased && b.Note != other.Note || !bytes.Equal(b.Filter, other.Filter) {
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

// errErasedUser refuses a flag that a note cannot be about.
var errErasedUser = fmt.Errorf("%w: the user has erased their account; decide without a note", flag.ErrNotAllowed)

var errMeanwhile = fmt.Errorf("%w: somebody has changed the flag meanwhile", flag.ErrNotAllowed)

// plan decides on each of the flags as the board has them now, and refuses those
// that somebody was at since it first saw them, or that the note cannot be about.
func (s *Service) plan(b bulk, ids []uuid.UUID, n note, m *met) (bulk, []events.Event, error) {
	b.Flags, b.Refused = []events.BulkFlag{}, []events.BulkRefusal{}
	decisions := make([]events.Event, 0, len(ids))
	for _, id := range ids {
		f, ok := s.board.Get(id)
		if !ok || n.lacks(f.User) { // the latter: it was raised this very moment
			b.Refused = append(b.Refused, events.BulkRefusal{Flag: id, Status: http.StatusNotFound, Detail: "there is no such flag"})
			continue
		}
		text, err := n.of(f)
		if err != nil {
			return bulk{}, nil, err
		}
		e, err := f.DecideInBulk(flag.Decision(b.Decision), b.By, text, b.id, b.at)
		if err == nil && n.erased[f.User] {
			err = errErasedUser
		}
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
			return s.sameBulk(ctx, there, asked, ids, err)
		}
		n, err := s.texts.note(ctx, asked.id, s.usersOf(ids), asked.Note)
		if err != nil {
			return bulk{}, err
		}
		done, evs, err := s.plan(asked, ids, n, m)
		if err != nil {
			return bulk{}, err
		}
		payload := done.BulkDecision
		payload.Note, payload.Sealed = "", n.whole
		head, err := s.bulkEvent(events.BulkDecided, asked.id, 1, asked.at, payload)
		if err != nil {
			return bulk{}, err
		}
		if ok, err := s.appendAll(ctx, append([]events.Event{head}, evs...), m); err != nil || ok {
			return done, err
		}
	}
}

// sameBulk answers a request that comes again, provided that it is the same one.
func (s *Service) sameBulk(ctx context.Context, there, asked bulk, ids []uuid.UUID, err error) (bulk, error) {
	if err == nil {
		err = s.openBulk(ctx, &there)
	}
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
// flags that have moved on since. A flag whose user is erased gets no note.
func (s *Service) undoAll(ctx context.Context, id, by uuid.UUID, text string) (bulk, error) {
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
		n, err := s.texts.note(ctx, id, s.usersOf(b.names()), text)
		if err != nil {
			return bulk{}, err
		}
		b.undone = s.deps.Clock()
		b.undo = &events.BulkUndo{By: by, Sealed: n.whole, Flags: []uuid.UUID{}, Refused: []events.BulkRefusal{}}
		evs, err := s.planUndo(b, n, m)
		if err != nil {
			return bulk{}, err
		}
		head, err := s.bulkEvent(events.BulkUndone, id, 2, b.undone, b.undo)
		if err != nil {
			return bulk{}, err
		}
		if ok, err := s.appendAll(ctx, append([]events.Event{head}, evs...), m); err != nil || ok {
			return b, errors.Join(err, s.openBulk(ctx, &b))
		}
	}
}

// planUndo makes the events that take the operation back, and says in b.undo for
// which flags there are any. A note or an assignment does not keep a flag from
// being taken back.
func (s *Service) planUndo(b bulk, n note, m *met) (evs []events.Event, err error) {
	for _, left := range b.Flags {
		f, ok := s.board.Get(left.Flag)
		if !ok {
			return nil, fmt.Errorf("bulk operation %s: flag %s is not on the board", b.id, left.Flag)
		}
		text, err := n.of(f)
		if err != nil {
			return nil, err
		}
		e, err := f.Undo(flag.Decision(b.Decision), left, b.undo.By, text, b.id, b.undone)
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

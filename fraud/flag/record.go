package flag

import (
	"errors"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Record is a flag with everything that is known of it.
type Record struct {
	Flag
	Evidence []events.Evidence
	History  []Entry
	Notes    []Note
}

// Entry is one thing that happened to a flag.
type Entry struct {
	At time.Time
	// Type is the event's type without domain and version: raised, confirmed,
	// dismissed, escalated, appealed, upheld, overturned, assigned, noted, expired,
	// undone, or what a later build calls its own.
	Type string
	// By is who did it; uuid.Nil if it is not known, or nobody did.
	By   uuid.UUID
	Note Text
	// Bulk is the operation that it was a part of; uuid.Nil if it was not.
	Bulk uuid.UUID
	// Undoes is the decision that an entry of type undone takes back.
	Undoes Decision
	// Assignee is set on an entry of type assigned, unless the flag was given
	// back.
	Assignee uuid.UUID
}

// Note is a note of a moderator's, or of a rule's.
type Note struct {
	At   time.Time
	By   uuid.UUID
	Text Text
}

// ErrUnknown says that there is no such flag.
var ErrUnknown = errors.New("no such flag")

// Read folds a flag's stream. It is ErrUnknown if the stream is empty or another
// thing's.
func Read(stream []events.Recorded) (Record, error) {
	var r Record
	if len(stream) == 0 || stream[0].Type != events.FlagRaised {
		return r, ErrUnknown
	}
	for _, e := range stream {
		if err := r.Apply(e); err != nil {
			return Record{}, err
		}
		if err := r.note(e); err != nil {
			return Record{}, err
		}
	}
	return r, nil
}

// note adds to the record what the summary leaves out.
func (r *Record) note(e events.Recorded) error {
	entry := Entry{At: e.OccurredAt, Type: shortType(e.Type)}
	switch e.Type {
	case events.FlagRaised:
		f, err := events.Unmarshal[events.Flag](e)
		if err != nil {
			return err
		}
		r.Evidence = f.Evidence
	case events.FlagAppealed:
		a, err := events.Unmarshal[events.Appeal](e)
		if err != nil {
			return err
		}
		entry.By, entry.Note = a.User, Text{a.Text, a.Sealed}
	case events.FlagAssigned:
		a, err := events.Unmarshal[events.Assignment](e)
		if err != nil {
			return err
		}
		entry.By = a.By
		if a.Assignee != nil {
			entry.Assignee = *a.Assignee
		}
	case events.FlagNoted:
		n, err := events.Unmarshal[events.Note](e)
		if err != nil {
			return err
		}
		entry.By, entry.Note = n.By, Text{n.Text, n.Sealed}
		r.Notes = append(r.Notes, Note{At: e.OccurredAt, By: n.By, Text: entry.Note})
	case events.FlagConfirmed, events.FlagDismissed, events.FlagEscalated, events.FlagUpheld, events.FlagOverturned:
		d, err := events.Unmarshal[events.Decision](e)
		if err != nil {
			return err
		}
		entry.By, entry.Note = d.By, Text{d.Note, d.Sealed}
		if d.Bulk != nil {
			entry.Bulk = *d.Bulk
		}
	case events.DecisionUndone:
		u, err := events.Unmarshal[events.UndoneDecision](e)
		if err != nil {
			return err
		}
		entry.By, entry.Note, entry.Bulk, entry.Undoes = u.By, Text{u.Note, u.Sealed}, u.Bulk, Decision(u.Undoes)
	}
	// Of other types, an expiry or what a later build writes, there is only the time.
	r.History = append(r.History, entry)
	return nil
}

// typePrefix begins the type of every event that a flag may begin with, also of
// those that a later build adds.
const typePrefix = "fraud.flag_"

// shortType makes "confirmed" of "fraud.flag_confirmed.v1", and "undone" of
// "fraud.decision_undone.v1".
func shortType(eventType string) string {
	s, _, _ := strings.Cut(strings.TrimPrefix(eventType, "fraud."), ".")
	for _, about := range []string{"flag_", "decision_"} {
		s = strings.TrimPrefix(s, about)
	}
	return s
}

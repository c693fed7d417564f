package fraud

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/fraud/rule"
)

// stamp is a time in an answer: RFC 3339 in UTC with microseconds.
type stamp time.Time

const stampLayout = `"2006-01-02T15:04:05.000000Z"`

// MarshalJSON implements json.Marshaler.
func (s stamp) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format(stampLayout)), nil
}

// flagAnswer is a flag in a list.
type flagAnswer struct {
	ID            uuid.UUID  `json:"id"`
	User          uuid.UUID  `json:"user"`
	Rule          string     `json:"rule"`
	RuleVersion   string     `json:"rule_version"`
	State         flag.State `json:"state"`
	Escalated     bool       `json:"escalated"`
	Score         int        `json:"score"`
	Observed      float64    `json:"observed"`
	Threshold     float64    `json:"threshold"`
	RaisedAt      stamp      `json:"raised_at"`
	EvidenceCount int        `json:"evidence_count"`
	Assignee      *uuid.UUID `json:"assignee"`
	// ExpiresAt is when it expires if it is still open; left out if never.
	ExpiresAt *stamp `json:"expires_at,omitempty"`
}

func answerFlag(f flag.Flag) flagAnswer {
	a := flagAnswer{
		ID: f.ID, User: f.User, Rule: f.Rule, RuleVersion: f.RuleVersion, State: f.State, Escalated: f.Escalated,
		Score: f.Score, Observed: f.Observed, Threshold: f.Threshold, RaisedAt: stamp(f.RaisedAt),
		EvidenceCount: f.Evidence, Assignee: orNull(f.Assignee),
	}
	if !f.ExpiresAt.IsZero() {
		a.ExpiresAt = (*stamp)(&f.ExpiresAt)
	}
	return a
}

func answerFlags(list []flag.Flag) []flagAnswer {
	out := make([]flagAnswer, len(list))
	for i, f := range list {
		out[i] = answerFlag(f)
	}
	return out
}

func orNull(id uuid.UUID) *uuid.UUID {
	if id == uuid.Nil {
		return nil
	}
	return &id
}

// recordAnswer is a flag with all that is known of it.
type recordAnswer struct {
	flagAnswer
	Evidence []evidenceAnswer `json:"evidence"`
	History  []entryAnswer    `json:"history"`
	Notes    []noteAnswer     `json:"notes"`
}

type evidenceAnswer struct {
	EventID uuid.UUID `json:"event_id"`
	Type    rule.Kind `json:"type"`
	// Actor is who did it, unless that is the flag's user.
	Actor      uuid.UUID `json:"actor,omitzero"`
	Target     uuid.UUID `json:"target"`
	OccurredAt stamp     `json:"occurred_at"`
	// Position is where in the activity log it stands.
	Position events.Position `json:"position"`
}

// entryAnswer is a step of a flag's history. By is null where a rule acted, or
// time. Erased says that there was a note, which is gone with whom it was about.
type entryAnswer struct {
	At       stamp      `json:"at"`
	Type     string     `json:"type"`
	By       *uuid.UUID `json:"by"`
	Note     string     `json:"note,omitempty"`
	Erased   bool       `json:"erased,omitempty"`
	Assignee *uuid.UUID `json:"assignee,omitempty"`
	// Bulk is the operation that it was a part of, and Undoes, on an entry of type
	// undone, the decision that it takes back.
	Bulk   *uuid.UUID    `json:"bulk,omitempty"`
	Undoes flag.Decision `json:"undoes,omitempty"`
}

// noteAnswer is a note. By is null where a rule left it. The text of an erased one is
// empty.
type noteAnswer struct {
	At     stamp      `json:"at"`
	By     *uuid.UUID `json:"by"`
	Text   string     `json:"text"`
	Erased bool       `json:"erased,omitempty"`
}

// answerRecord answers with a flag and what was written about it.
func (s *Service) answerRecord(ctx context.Context, r flag.Record) (recordAnswer, error) {
	byRule := ruleStream(r.Rule)
	var written []flag.Text       // by people
	for _, e := range r.History { // notes are among them
		if e.By != byRule {
			written = append(written, e.Note)
		}
	}
	o, err := s.texts.opener(ctx, r.ID, []uuid.UUID{r.User}, written...)
	if err != nil {
		return recordAnswer{}, err
	}
	a := recordAnswer{
		flagAnswer: answerFlag(r.Flag),
		Evidence:   make([]evidenceAnswer, len(r.Evidence)),
		History:    make([]entryAnswer, len(r.History)),
		Notes:      make([]noteAnswer, len(r.Notes)),
	}
	for i, e := range r.Evidence {
		a.Evidence[i] = evidenceAnswer{e.EventID, rule.KindOf(e.Type), e.Actor, e.Target, stamp(e.OccurredAt), e.Position}
	}
	for i, e := range r.History {
		h := &a.History[i]
		*h = entryAnswer{At: stamp(e.At), Type: e.Type, Note: e.Note.Plain, Assignee: orNull(e.Assignee), Bulk: orNull(e.Bulk), Undoes: e.Undoes}
		if e.By == byRule {
			continue
		}
		h.By = orNull(e.By)
		h.Note, h.Erased = o.open(e.Note)
	}
	for i, n := range r.Notes {
		note := &a.Notes[i]
		*note = noteAnswer{At: stamp(n.At), Text: n.Text.Plain}
		if n.By == byRule {
			continue
		}
		note.By = orNull(n.By)
		note.Text, note.Erased = o.open(n.Text)
	}
	return a, nil
}

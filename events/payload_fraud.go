package events

import (
	"encoding/json"
	"time"

	"github.com/google/uuid"
)

// Flag is the payload of fraud.flag_raised.v1. Every field follows from the rule
// and the events, so a replay raises the same bytes.
type Flag struct {
	User        uuid.UUID `json:"user"`
	Rule        string    `json:"rule"`
	RuleVersion string    `json:"rule_version"`
	Score       int       `json:"score"`
	// Observed is what the aggregate came to, Threshold what it had to reach.
	Observed  float64    `json:"observed"`
	Threshold float64    `json:"threshold"`
	Evidence  []Evidence `json:"evidence"`
}

// Evidence is one event that a flag rests on.
type Evidence struct {
	EventID    uuid.UUID `json:"event_id"`
	Type       string    `json:"type"`
	Target     uuid.UUID `json:"target"`
	OccurredAt time.Time `json:"occurred_at"`
	Position   Position  `json:"position"`
}

// Decision is the payload of fraud.flag_confirmed.v1, flag_dismissed,
// flag_escalated, flag_upheld and flag_overturned.
type Decision struct {
	User uuid.UUID `json:"user"`
	Rule string    `json:"rule"`
	By   uuid.UUID `json:"by"`
	Note string    `json:"note,omitempty"`
}

// Appeal is the payload of fraud.flag_appealed.v1.
type Appeal struct {
	User uuid.UUID `json:"user"`
	Text string    `json:"text"`
}

// Assignment is the payload of fraud.flag_assigned.v1; a nil assignee gives the
// flag back.
type Assignment struct {
	Assignee *uuid.UUID `json:"assignee"`
	By       uuid.UUID  `json:"by"`
}

// Note is the payload of fraud.flag_noted.v1.
type Note struct {
	By   uuid.UUID `json:"by"`
	Text string    `json:"text"`
}

// RuleDefinition is the payload of fraud.rule_defined.v2: the rule as JSON, and
// the hash of its content. Version 1 did not say why.
type RuleDefinition struct {
	Rule    string          `json:"rule"`
	Version string          `json:"version"`
	Mode    string          `json:"mode"`
	Spec    json.RawMessage `json:"spec"`
	By      string          `json:"by"`
	Why     string          `json:"why"`
}

// RuleMode is the payload of fraud.rule_mode_changed.v1.
type RuleMode struct {
	Rule string `json:"rule"`
	From string `json:"from"`
	To   string `json:"to"`
	By   string `json:"by"`
	Why  string `json:"why,omitempty"`
}

// RuleEffect is the payload of fraud.rule_took_effect.v1. A change of what a live
// rule raises, its mode or its version, is announced by its own event; where in the
// activity log it takes effect is on record once this one follows. So a hit raises a
// flag, or does not, whoever finds it and however late.
type RuleEffect struct {
	Rule    string `json:"rule"`
	Version string `json:"version"`
	Mode    string `json:"mode"`
	// After is, by partition of the activity log, the last event that the change
	// does not concern.
	After []uint64 `json:"after"`
}

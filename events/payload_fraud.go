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
	Observed  float64 `json:"observed"`
	Threshold float64 `json:"threshold"`
	// ExpiresAt is when it expires unless somebody has decided: its rule time and
	// the rule's time to live; nil if the rule has none.
	ExpiresAt *time.Time `json:"expires_at,omitempty"`
	Evidence  []Evidence `json:"evidence"`
}

// Evidence is one event that a flag rests on.
type Evidence struct {
	EventID uuid.UUID `json:"event_id"`
	Type    string    `json:"type"`
	// Actor is who did it, unless that is the flag's user.
	Actor      uuid.UUID `json:"actor,omitzero"`
	Target     uuid.UUID `json:"target"`
	OccurredAt time.Time `json:"occurred_at"`
	Position   Position  `json:"position"`
}

// SealedText is what somebody wrote about a user, sealed as Registration is with a key
// of that user's that the fraud service keeps: destroying it erases the text. Events of
// earlier builds have it in the clear, as have those of rules, which say nothing of
// anybody.
type SealedText struct {
	// Key says with which key: the user's, or one of its own if it is about several.
	Key uuid.UUID `json:"key"`
	// Bytes are nonce and AES-256-GCM ciphertext, bound to the key's ID and the stream.
	Bytes []byte `json:"bytes"`
}

// Decision is the payload of fraud.flag_confirmed.v1, flag_dismissed,
// flag_escalated, flag_upheld and flag_overturned.
type Decision struct {
	User uuid.UUID `json:"user"`
	Rule string    `json:"rule"`
	By   uuid.UUID `json:"by"`
	// Note is empty where it is Sealed.
	Note   string      `json:"note,omitempty"`
	Sealed *SealedText `json:"sealed,omitempty"`
	// Bulk is the stream of the operation that it is a part of, if it is.
	Bulk *uuid.UUID `json:"bulk,omitempty"`
}

// Expiry is the payload of fraud.flag_expired.v1, which occurred when the flag was
// to expire.
type Expiry struct {
	User uuid.UUID `json:"user"`
	Rule string    `json:"rule"`
}

// UndoneDecision is the payload of fraud.decision_undone.v1: a flag is back where
// it stood before a decision that was part of a bulk operation.
type UndoneDecision struct {
	User uuid.UUID `json:"user"`
	Rule string    `json:"rule"`
	By   uuid.UUID `json:"by"`
	// Note is empty where it is Sealed.
	Note   string      `json:"note,omitempty"`
	Sealed *SealedText `json:"sealed,omitempty"`
	Bulk   uuid.UUID   `json:"bulk"`
	// Undoes is the decision: confirm, dismiss, escalate, uphold or overturn.
	Undoes string `json:"undoes"`
	Standpoint
}

// Standpoint is where a flag stands: its state, whether it is escalated, and when
// it was decided on, if it was.
type Standpoint struct {
	State     string     `json:"state"`
	Escalated bool       `json:"escalated,omitempty"`
	DecidedAt *time.Time `json:"decided_at,omitempty"`
}

// BulkDecision is the payload of fraud.bulk_decided.v1: one decision on many flags,
// each of which has its own event in the same commit.
type BulkDecision struct {
	By       uuid.UUID `json:"by"`
	Decision string    `json:"decision"`
	// Note is empty where it is Sealed, with a key that the flags' users share. Each
	// flag's own event has a copy that is sealed with the key of its user.
	Note   string      `json:"note,omitempty"`
	Sealed *SealedText `json:"sealed,omitempty"`
	// Filter is what the flags were found by; none if they were named.
	Filter  json.RawMessage `json:"filter,omitempty"`
	Flags   []BulkFlag      `json:"flags"`
	Refused []BulkRefusal   `json:"refused"`
}

// BulkFlag is a flag that was decided on: the version that it came to, and where
// it stood before.
type BulkFlag struct {
	Flag    uuid.UUID  `json:"flag"`
	Version uint64     `json:"version"`
	Before  Standpoint `json:"before"`
}

// BulkRefusal is a flag that was left as it was, and why: an HTTP status and words.
type BulkRefusal struct {
	Flag   uuid.UUID `json:"flag"`
	Status int       `json:"status"`
	Detail string    `json:"detail"`
}

// BulkUndo is the payload of fraud.bulk_undone.v1: the flags that are back where
// they stood, each with its own event in the same commit, and those that are not.
type BulkUndo struct {
	By uuid.UUID `json:"by"`
	// Note and Sealed are as in BulkDecision.
	Note    string        `json:"note,omitempty"`
	Sealed  *SealedText   `json:"sealed,omitempty"`
	Flags   []uuid.UUID   `json:"flags"`
	Refused []BulkRefusal `json:"refused"`
}

// Appeal is the payload of fraud.flag_appealed.v1.
type Appeal struct {
	User uuid.UUID `json:"user"`
	// Text is empty where it is Sealed.
	Text   string      `json:"text,omitempty"`
	Sealed *SealedText `json:"sealed,omitempty"`
}

// Assignment is the payload of fraud.flag_assigned.v1; a nil assignee gives the
// flag back.
type Assignment struct {
	Assignee *uuid.UUID `json:"assignee"`
	By       uuid.UUID  `json:"by"`
}

// Note is the payload of fraud.flag_noted.v1.
type Note struct {
	By uuid.UUID `json:"by"`
	// Text is empty where it is Sealed.
	Text   string      `json:"text,omitempty"`
	Sealed *SealedText `json:"sealed,omitempty"`
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

// Cut is the payload of fraud.order_cut.v1. Between two cuts the events of all
// partitions of the activity log have one order, in which rules that look at several
// partitions are given them. A cut's version is its number.
type Cut struct {
	// Through is, by partition of the activity log, the last event before the cut.
	Through []uint64 `json:"through"`
}

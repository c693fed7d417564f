// Package rule is a fraud rule as data: what it may say, how it is written down,
// and which faults it can have.
//
// It promises that
//   - a rule that Parse returns is valid: whatever runs it need not check again;
//   - all faults are reported at once, each with its field's path and, from a
//     text, its line and column;
//   - reading is strict: an unknown field, a field twice, a value of another
//     type, an anchor, an alias or a tag is a fault, and no text of at most
//     MaxBytes takes more than a moment or some megabytes to refuse;
//   - a rule's version follows from its content alone: two rules with one version
//     raise the same flags.
package rule

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/meet5/backend/events"
)

// Bounds of a rule.
const (
	// MaxThreshold bounds the state that the engine keeps for one key.
	MaxThreshold = 10_000
	// MaxScore is the score of what is certain.
	MaxScore = 100
	// maxID, maxTitle and maxDescription are in bytes, characters and characters.
	maxID          = 64
	maxTitle       = 120
	maxDescription = 4000
	// minWindow and maxWindow bound a window's length.
	minWindow = Duration(second)
	maxWindow = Duration(366 * day)
)

// Key is whose events are looked at together.
type Key string

// KeyActor looks at what one user does.
const KeyActor Key = "actor"

// keyTarget would look at what is done to one user.
const keyTarget Key = "target"

// Kind is a kind of activity.
type Kind string

// The kinds of activity that a rule can listen to.
const (
	Visit  Kind = "visit"
	Like   Kind = "like"
	Unlike Kind = "unlike"
)

// EventType is the type of the events that are of the kind; empty for a kind that
// there is not.
func (k Kind) EventType() string {
	switch k {
	case Visit:
		return events.ProfileVisited
	case Like:
		return events.ProfileLiked
	case Unlike:
		return events.LikeWithdrawn
	}
	return ""
}

// KindOf is the kind of an event's type; empty if it is of none.
func KindOf(eventType string) Kind {
	switch eventType {
	case events.ProfileVisited:
		return Visit
	case events.ProfileLiked:
		return Like
	case events.LikeWithdrawn:
		return Unlike
	}
	return ""
}

// Aggregate is what a rule measures of the events in its window.
type Aggregate string

const (
	// Count is the number of events.
	Count Aggregate = "count"
	// Distinct is the number of different targets.
	Distinct Aggregate = "distinct"
	// PairedDistinct is about targets visited and liked; the Reading says how.
	PairedDistinct Aggregate = "paired_distinct"
)

// Reading is how "visited and liked so many" is meant.
type Reading string

const (
	// Both counts the targets that were each both visited and liked.
	Both Reading = "both"
	// Each counts the targets visited and the targets liked, whichever are fewer.
	Each Reading = "each"
)

// Effect is what a hit leads to.
type Effect string

const (
	// Flag raises a flag, which waits for a moderator.
	Flag Effect = "flag"
	// FlagAndMark raises a flag and confirms it at once.
	FlagAndMark Effect = "flag_and_mark"
)

// Mode is how far a rule has come.
type Mode string

const (
	Draft   Mode = "draft"   // is not run
	Shadow  Mode = "shadow"  // is run, and its hits are counted
	Live    Mode = "live"    // is run, and its hits have their effect
	Retired Mode = "retired" // is no longer run
)

// Window is the time that a rule looks back on. One of the two is set.
type Window struct {
	// Sliding is the time up to an event, both ends included.
	Sliding Duration `json:"sliding,omitempty"`
	// SinceAccountCreation is the time from when the account was made, its last
	// moment included: with ten minutes, an event exactly ten minutes after
	// joining counts. So does one that is dated before joining.
	SinceAccountCreation Duration `json:"since_account_creation,omitempty"`
}

// Rule says when a user is to be flagged: as soon as the aggregate over the
// events of one key within the window comes up to the threshold.
type Rule struct {
	// ID is a slug: lower-case letters, digits and hyphens, at most 64.
	ID          string    `json:"id"`
	Title       string    `json:"title"`
	Description string    `json:"description,omitempty"`
	Key         Key       `json:"key"`
	Events      []Kind    `json:"events"`
	Window      Window    `json:"window"`
	Aggregate   Aggregate `json:"aggregate"`
	// Reading is set if the aggregate is PairedDistinct.
	Reading Reading `json:"reading,omitempty"`
	// Threshold is from 1 to MaxThreshold.
	Threshold int `json:"threshold"`
	// Score is from 0 to MaxScore.
	Score  int    `json:"score"`
	Effect Effect `json:"effect"`
	Mode   Mode   `json:"mode,omitempty"`
	// Cases are tests of the rule that travel with it.
	Cases []Case `json:"cases,omitempty"`
}

// Version is the first 16 hexadecimal digits of the SHA-256 of the rule's
// canonical JSON without its mode and cases.
func (r Rule) Version() string {
	r.Mode, r.Cases = "", nil
	r.normalize()
	b, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Errorf("marshal rule %s: %w", r.ID, err)) // only strings and numbers
	}
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:8])
}

// normalize fills in what a rule leaves to its default and puts the events in
// their one order.
func (r *Rule) normalize() {
	r.Key = cmp.Or(r.Key, KeyActor)
	r.Effect = cmp.Or(r.Effect, Flag)
	if r.Aggregate == PairedDistinct {
		r.Reading = cmp.Or(r.Reading, Both)
	}
	r.Events = slices.Clone(r.Events)
	slices.SortFunc(r.Events, func(a, b Kind) int { return cmp.Compare(a.order(), b.order()) })
}

func (k Kind) order() int { return slices.Index(kinds, k) }

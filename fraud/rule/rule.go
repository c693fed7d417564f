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
	"time"

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
	// minGaps and maxGaps bound the threshold of regularity: a few gaps are even by
	// chance. maxEvenWindow bounds its window, and maxWithin a sequence's pause.
	minGaps       = 5
	maxGaps       = 1000
	maxEvenWindow = Duration(day)
	maxWithin     = Duration(day)
	minWithin     = Duration(time.Millisecond)
	// maxVariation is in percent, maxAge an account's.
	maxVariation = 100
	maxAge       = Duration(3660 * day)
	// LockstepAccounts and LockstepTargets are how many accounts that met a target, and how
	// many targets of an account, a rule of the aggregate lockstep remembers. A rule asks
	// for at most half of either.
	LockstepAccounts = 256
	LockstepTargets  = 64
	maxLockAccounts  = LockstepAccounts / 2
	maxLockTargets   = LockstepTargets / 2
	minLock          = 2
	// minTimeToLive is so long that a moderator can be asleep.
	minTimeToLive = Duration(day)
)

// Key is whose events are looked at together.
type Key string

const (
	// KeyActor looks at what one user does.
	KeyActor Key = "actor"
	// KeyTarget looks at what is done to one user.
	KeyTarget Key = "target"
)

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
	// Burst is the number of different young accounts that meet one target: Distinct by
	// target, with a condition on the account's age.
	Burst Aggregate = "burst"
	// InLockstep is the number of accounts that meet the same targets; see Lockstep.
	InLockstep Aggregate = "lockstep"
	// InRatio is how many events of one kind there are for 100 of another, among the
	// latest so many; see Ratio.
	InRatio Aggregate = "ratio"
	// InSequence is how often an event of one kind came soon after one of another
	// with the same target; see Sequence.
	InSequence Aggregate = "sequence"
	// InRegularity is the number of gaps between successive events that are even;
	// see Regularity.
	InRegularity Aggregate = "regularity"
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

// Window is the time that a rule looks back on. One of the three is set.
type Window struct {
	// Sliding is the time up to an event, both ends included.
	Sliding Duration `json:"sliding,omitempty"`
	// SinceAccountCreation is the time from when the account was made, its last
	// moment included: with ten minutes, an event exactly ten minutes after
	// joining counts. So does one that is dated before joining.
	SinceAccountCreation Duration `json:"since_account_creation,omitempty"`
	// SinceFirstEvent is the time from the key's first activity in the log, of
	// whatever kind, its last moment included.
	SinceFirstEvent Duration `json:"since_first_event,omitempty"`
}

// Length is the length that is set, and Anchored whether the window begins at one
// moment, at which account creation or the first event is, instead of sliding.
func (w Window) Length() (length Duration, anchored bool) {
	if w.Sliding != 0 {
		return w.Sliding, false
	}
	return w.SinceAccountCreation + w.SinceFirstEvent, true
}

// Where is what events must be like to count for a rule. All that is set must hold.
type Where struct {
	AccountAge Age   `json:"account_age,omitzero"`
	Hour       Hours `json:"hour,omitzero"`
	// Target is whether the target must be among those of the rule's events that the
	// key had in the window, or must not.
	Target Familiarity `json:"target,omitempty"`
}

// Age bounds how old the actor's account is when it acts: at least so old, and
// younger than that. A bound that is zero does not count.
type Age struct {
	AtLeast Duration `json:"at_least,omitempty"`
	Below   Duration `json:"below,omitempty"`
}

// Hours is a part of the day in UTC: from the beginning of one hour, 0 to 23, until
// the beginning of another, 1 to 24. It goes over midnight if Until is before From.
type Hours struct {
	From  int `json:"from"`
	Until int `json:"until"`
}

// Familiarity is whether a key has met a target before.
type Familiarity string

const (
	Repeated Familiarity = "repeated" // it has
	New      Familiarity = "new"      // it has not
)

// Ratio is the number of events of kind Of for 100 of kind Per, among the latest
// Volume of both in the window. It is as if there were none before there are so many,
// and as if there were one of Per where there is none.
type Ratio struct {
	Of  Kind `json:"of"`
	Per Kind `json:"per"`
	// Volume is from 2 to MaxThreshold.
	Volume int `json:"volume"`
}

// Sequence counts the events of kind Then that come up to Within after one of kind
// First with the same target; no longer than a sliding window. Each of either kind counts
// once.
type Sequence struct {
	First  Kind     `json:"first"`
	Then   Kind     `json:"then"`
	Within Duration `json:"within"`
}

// Regularity says when the latest gaps between successive events, as many as the
// threshold, are even: when their coefficient of variation, the standard deviation
// divided by the mean, is at most so many percent. It is about 100 where events come
// at random (a Poisson process), and near 0 for a clockwork.
type Regularity struct {
	// Variation is from 0 to 100, in percent.
	Variation int `json:"variation"`
}

// Lockstep finds groups: at least as many accounts as the threshold and at least so many
// targets, where each of the accounts met at least so many of the targets within the
// window and each of the targets was met by at least so many of the accounts. The users
// are all accounts of the group.
type Lockstep struct {
	// Targets is from 2 to half of LockstepTargets.
	Targets int `json:"targets"`
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
	Where       Where     `json:"where,omitzero"`
	Window      Window    `json:"window"`
	Aggregate   Aggregate `json:"aggregate"`
	// Reading is set if the aggregate is PairedDistinct, and Ratio, Sequence, Regularity
	// and Lockstep if it is the one of that name.
	Reading    Reading     `json:"reading,omitempty"`
	Ratio      *Ratio      `json:"ratio,omitempty"`
	Sequence   *Sequence   `json:"sequence,omitempty"`
	Regularity *Regularity `json:"regularity,omitempty"`
	Lockstep   *Lockstep   `json:"lockstep,omitempty"`
	// Threshold is from 1 to MaxThreshold; of regularity, from minGaps to maxGaps; of
	// lockstep, from 2 to half of LockstepAccounts.
	Threshold int `json:"threshold"`
	// Score is from 0 to MaxScore.
	Score  int    `json:"score"`
	Effect Effect `json:"effect"`
	// TimeToLive is after what time a flag that nobody has decided expires; never,
	// if it is zero.
	TimeToLive Duration `json:"time_to_live,omitempty"`
	Mode       Mode     `json:"mode,omitempty"`
	// Cases are tests of the rule that travel with it.
	Cases []Case `json:"cases,omitempty"`
}

// Ordered says whether what the rule finds follows from the one order of all partitions'
// events (package order), as what is done to one user does, and what several do: that may
// stand in any of them.
func (r Rule) Ordered() bool { return r.Key == KeyTarget || r.Aggregate == InLockstep }

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

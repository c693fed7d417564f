package engine

import (
	"time"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// where is a rule's conditions but that on whether the target was met, in microseconds.
type where struct {
	age         between          // of the actor's account
	targetAge   between          // of the target's, at the same time
	targetState rule.TargetState // empty if it does not matter
	from, until int64            // of the day; both 0 if it does not matter
}

// between bounds an age: from so much on, and below that. A bound that is 0 does not
// matter.
type between struct{ from, below int64 }

func newWhere(w rule.Where) where {
	return where{
		age: newBetween(w.AccountAge), targetAge: newBetween(w.TargetAge), targetState: w.TargetState,
		from: hours(w.Hour.From), until: hours(w.Hour.Until),
	}
}

func newBetween(a rule.Age) between { return between{micros(a.AtLeast), micros(a.Below)} }

func (b between) holds(age int64) bool {
	return (b.from == 0 || age >= b.from) && (b.below == 0 || age < b.below)
}

func hours(n int) int64 { return (time.Duration(n) * time.Hour).Microseconds() }

// holds says whether an event counts.
func (w *where) holds(s *sighting) bool {
	if !w.age.holds(s.at - s.joined) {
		return false
	}
	if (w.targetAge != between{} || w.targetState != "") && !w.holdsOf(&s.target, s.at) {
		return false
	}
	if w.from == w.until {
		return true
	}
	of := s.at % hours(24)
	if w.from < w.until {
		return w.from <= of && of < w.until
	}
	return w.from <= of || of < w.until
}

// holdsOf says whether the conditions on the target hold. They do not of one of whom
// nothing is known.
func (w *where) holdsOf(t *target, at int64) bool {
	return t.known && w.targetAge.holds(at-t.joined) &&
		(w.targetState == "" || t.hidden == (w.targetState == rule.Hidden))
}

// target is what an event says of its target.
type target struct {
	joined        int64
	known, hidden bool
}

func targetOf(a *events.Activity) target {
	if a.TargetJoinedAt.IsZero() {
		return target{}
	}
	return target{joined: a.TargetJoinedAt.UnixMicro(), known: true, hidden: a.TargetHidden}
}

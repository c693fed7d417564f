package engine

import (
	"time"

	"github.com/meet5/backend/fraud/rule"
)

// where is a rule's conditions but that on the target, in microseconds.
type where struct {
	ageFrom, ageBelow int64 // the account's; ageBelow is 0 if it does not matter
	from, until       int64 // of the day; both 0 if it does not matter
}

func newWhere(w rule.Where) where {
	return where{
		ageFrom: micros(w.AccountAge.AtLeast), ageBelow: micros(w.AccountAge.Below),
		from: hours(w.Hour.From), until: hours(w.Hour.Until),
	}
}

func hours(n int) int64 { return (time.Duration(n) * time.Hour).Microseconds() }

// holds says whether an event at a time counts, of an account that was made when it
// was.
func (w *where) holds(at, joined int64) bool {
	if w.ageFrom > 0 || w.ageBelow > 0 {
		if age := at - joined; w.ageFrom > 0 && age < w.ageFrom || w.ageBelow > 0 && age >= w.ageBelow {
			return false
		}
	}
	if w.from == w.until {
		return true
	}
	day := hours(24)
	of := at % day
	if w.from < w.until {
		return w.from <= of && of < w.until
	}
	return w.from <= of || of < w.until
}

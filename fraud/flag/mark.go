package flag

import (
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// Day is a day in UTC, counted from 1970-01-01.
type Day int64

// DayOf is the day of a time.
func DayOf(t time.Time) Day {
	const seconds = 24 * 60 * 60
	s := t.Unix()
	if s < 0 {
		s -= seconds - 1 // the division cuts towards zero
	}
	return Day(s / seconds)
}

func (d Day) String() string {
	return time.Unix(int64(d)*24*60*60, 0).UTC().Format(time.DateOnly)
}

// MarkID is the ID of the event by which a rule that marks confirms its own flag.
func MarkID(flag uuid.UUID) uuid.UUID { return events.DeriveID(flag, "confirmed by the rule") }

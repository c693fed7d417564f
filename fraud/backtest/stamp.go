package backtest

import (
	"fmt"
	"time"
)

// Stamp is a time in a report: RFC 3339 in UTC, always with microseconds.
type Stamp time.Time

const stampLayout = `"2006-01-02T15:04:05.000000Z"`

// MarshalJSON implements json.Marshaler.
func (s Stamp) MarshalJSON() ([]byte, error) {
	return []byte(time.Time(s).UTC().Format(stampLayout)), nil
}

// UnmarshalJSON implements json.Unmarshaler. It takes any RFC 3339 time.
func (s *Stamp) UnmarshalJSON(text []byte) error {
	var t time.Time
	if err := t.UnmarshalJSON(text); err != nil {
		return fmt.Errorf("read a report's time: %w", err)
	}
	*s = Stamp(t.UTC())
	return nil
}

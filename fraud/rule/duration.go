package rule

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	second = time.Second
	day    = 24 * time.Hour
)

// Duration is a time.Duration that is written as in "10m", "1h30m" or "30d".
type Duration time.Duration

// parseDuration reads a length of time: what time.ParseDuration takes, with days
// before it, and no finer than a millisecond.
func parseDuration(s string) (Duration, error) {
	var days time.Duration
	rest := s
	if n, after, ok := strings.Cut(s, "d"); ok {
		v, err := strconv.ParseUint(n, 10, 16)
		if err != nil {
			return 0, fmt.Errorf("%q is not a length of time such as 90s, 10m, 1h30m or 30d", s)
		}
		days, rest = time.Duration(v)*day, after
	}
	var d time.Duration
	if rest != "" || s == "" {
		var err error
		if d, err = time.ParseDuration(rest); err != nil {
			return 0, fmt.Errorf("%q is not a length of time such as 90s, 10m, 1h30m or 30d", s)
		}
	}
	d += days
	if d < 0 || d%time.Millisecond != 0 {
		return 0, fmt.Errorf("%q is negative or finer than a millisecond", s)
	}
	return Duration(d), nil
}

// String is the one way that a duration is written: days, hours, minutes and
// seconds, those that are zero left out.
func (d Duration) String() string {
	if d == 0 {
		return "0s"
	}
	var b strings.Builder
	rest := time.Duration(d)
	for _, unit := range []struct {
		name string
		size time.Duration
	}{{"d", day}, {"h", time.Hour}, {"m", time.Minute}} {
		if n := rest / unit.size; n > 0 {
			b.WriteString(strconv.FormatInt(int64(n), 10) + unit.name)
			rest %= unit.size
		}
	}
	if rest > 0 {
		b.WriteString(rest.String())
	}
	return b.String()
}

// MarshalText writes String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what String writes.
func (d *Duration) UnmarshalText(b []byte) (err error) {
	*d, err = parseDuration(string(b))
	return err
}

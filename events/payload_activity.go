package events

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Activity is the payload of a visit, a like and a withdrawn like. The actor is
// the event's stream.
type Activity struct {
	// Target is the user whose profile was visited or liked.
	Target uuid.UUID `json:"target"`
	// JoinedAt is when the actor's account was created, so that a rule over
	// young accounts needs no second stream.
	JoinedAt time.Time `json:"joined_at"`
	// Trusted says that the event came from a trusted source (role service, an
	// import), whose OccurredAt is taken for true.
	Trusted bool `json:"trusted,omitempty"`
	// TargetJoinedAt is when the target's account was created, and TargetHidden says
	// that what the target did was hidden, the account being marked fraudulent, both as
	// they were known when the event was written. They are not known, and left out, of
	// events of earlier builds and of imports: TargetHidden says something only where
	// TargetJoinedAt is not zero.
	TargetJoinedAt time.Time `json:"target_joined_at,omitzero"`
	TargetHidden   bool      `json:"target_hidden,omitempty"`
}

// Visibility is the payload of activity.actor_hidden.v1 and
// activity.actor_restored.v1: from here on what the actor did, before and after,
// is left out of (or again part of) other people's lists and counts. Cause is
// the event of the user log that led to it.
type Visibility struct {
	Cause uuid.UUID `json:"cause"`
}

// timeLayout is RFC 3339 with microseconds, always 27 bytes in UTC.
const timeLayout = "2006-01-02T15:04:05.000000Z"

const (
	partTarget       = `{"target":"`
	partJoined       = `","joined_at":"`
	partTrusted      = `,"trusted":true`
	partTargetJoined = `,"target_joined_at":"`
	partTargetHidden = `,"target_hidden":true`
	atTarget         = len(partTarget)
	atJoined         = atTarget + 36 + len(partJoined)
	endJoined        = atJoined + len(timeLayout)
)

// AppendJSON appends the canonical JSON of the payload: fixed field order, the
// times in UTC with six digits of fraction. What is not known of the target is left out.
func (a Activity) AppendJSON(b []byte) []byte {
	b = append(b, partTarget...)
	at := len(b)
	b = append(b, make([]byte, 36)...)
	encodeUUID(b[at:], a.Target)
	b = append(b, partJoined...)
	b = appendTime(b, a.JoinedAt)
	b = append(b, '"')
	if a.Trusted {
		b = append(b, partTrusted...)
	}
	if !a.TargetJoinedAt.IsZero() {
		b = append(b, partTargetJoined...)
		b = appendTime(b, a.TargetJoinedAt)
		b = append(b, '"')
		if a.TargetHidden {
			b = append(b, partTargetHidden...)
		}
	}
	return append(b, '}')
}

// MarshalJSON is AppendJSON for encoding/json.
func (a Activity) MarshalJSON() ([]byte, error) { return a.AppendJSON(nil), nil }

// ParseActivity reads the payload of an activity. Canonical JSON, which is all
// that our own writer makes, takes well under 200 ns; other JSON of the same
// shape takes the long way.
func ParseActivity(data []byte) (Activity, error) {
	if a, ok := parseCanonical(data); ok {
		return a, nil
	}
	type plain Activity // without the methods
	var p plain
	if err := json.Unmarshal(data, &p); err != nil {
		return Activity{}, fmt.Errorf("read activity payload: %w", err)
	}
	return Activity(p), nil
}

func parseCanonical(b []byte) (a Activity, ok bool) {
	if len(b) < endJoined+2 || string(b[:atTarget]) != partTarget ||
		string(b[atTarget+36:atJoined]) != partJoined || b[endJoined] != '"' {
		return a, false
	}
	rest := b[endJoined+1:]
	rest, a.Trusted = after(rest, partTrusted)
	if rest, ok = after(rest, partTargetJoined); ok {
		if len(rest) < len(timeLayout)+1 || rest[len(timeLayout)] != '"' {
			return a, false
		}
		if a.TargetJoinedAt, ok = parseTime(rest[:len(timeLayout)]); !ok {
			return a, false
		}
		rest, a.TargetHidden = after(rest[len(timeLayout)+1:], partTargetHidden)
	}
	if string(rest) != "}" {
		return a, false
	}
	var err error
	if a.Target, err = uuid.ParseBytes(b[atTarget : atTarget+36]); err != nil {
		return a, false
	}
	a.JoinedAt, ok = parseTime(b[atJoined:endJoined])
	return a, ok
}

// after is what follows a part, if it is there.
func after(b []byte, part string) (rest []byte, there bool) {
	if len(b) < len(part) || string(b[:len(part)]) != part {
		return b, false
	}
	return b[len(part):], true
}

// appendTime appends timeLayout in UTC without the detours of time.AppendFormat.
func appendTime(b []byte, t time.Time) []byte {
	t = t.UTC()
	y, mo, d := t.Date()
	if y < 0 || y > 9999 {
		return t.AppendFormat(b, timeLayout)
	}
	h, mi, s := t.Clock()
	at := len(b)
	b = append(b, "0000-00-00T00:00:00.000000Z"...)
	num := func(from, to, n int) {
		for ; to > from; n /= 10 {
			to--
			b[at+to] = byte('0' + n%10)
		}
	}
	num(0, 4, y)
	num(5, 7, int(mo))
	num(8, 10, d)
	num(11, 13, h)
	num(14, 16, mi)
	num(17, 19, s)
	num(20, 26, t.Nanosecond()/1000)
	return b
}

// parseTime reads timeLayout without the detours of time.Parse.
func parseTime(b []byte) (time.Time, bool) {
	num := func(from, to int) int {
		n := 0
		for _, c := range b[from:to] {
			if c < '0' || c > '9' {
				return -1 << 31
			}
			n = n*10 + int(c-'0')
		}
		return n
	}
	y, mo, d := num(0, 4), num(5, 7), num(8, 10)
	h, mi, s, us := num(11, 13), num(14, 16), num(17, 19), num(20, 26)
	if b[4] != '-' || b[7] != '-' || b[10] != 'T' || b[13] != ':' || b[16] != ':' || b[19] != '.' || b[26] != 'Z' ||
		y < 0 || mo < 1 || mo > 12 || d < 1 || d > 31 || h < 0 || h > 23 || mi < 0 || mi > 59 || s < 0 || s > 59 || us < 0 {
		return time.Time{}, false
	}
	t := time.Date(y, time.Month(mo), d, h, mi, s, us*1000, time.UTC)
	return t, t.Day() == d // no 31st of April
}

func encodeUUID(dst []byte, u uuid.UUID) {
	const digits = "0123456789abcdef"
	j := 0
	for i, x := range u {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			dst[j] = '-'
			j++
		}
		dst[j], dst[j+1] = digits[x>>4], digits[x&15]
		j += 2
	}
}

// RuleTime is the time that fraud rules go by, fixed when the event is written:
// the given time of a trusted source, else the recorded time, since a client can
// forge its own clock.
func RuleTime(e Recorded, a Activity) time.Time {
	if a.Trusted {
		return e.OccurredAt
	}
	return e.RecordedAt
}

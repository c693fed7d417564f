package export

import (
	"encoding/hex"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// kind is what a column holds.
type kind int

const (
	code     kind = iota // text of letters, digits and dashes that hardly repeats itself
	name                 // text that repeats itself
	document             // text that may be long, and may say what a user wrote
	small                // a whole number of 32 bits
	large                // a whole number of 64 bits
	instant              // microseconds since 1970, UTC
)

// column is one of the list. It has a text or a number, as its kind has it; where an
// optional one has none, false comes with it.
type column struct {
	name     string
	kind     kind
	optional bool
	text     func(b []byte, e *entry) ([]byte, bool)
	number   func(e *entry) (int64, bool)
}

// columns are those of every log and type. They have the names of a CloudEvent's
// attributes. Files that people keep have them: add at the end, and change none.
var columns = []column{
	{name: "id", kind: code, text: func(b []byte, e *entry) ([]byte, bool) { return appendUUID(b, e.ID), true }},
	{name: "source", kind: name, text: func(b []byte, e *entry) ([]byte, bool) { return append(b, e.source...), true }},
	{name: "type", kind: name, text: func(b []byte, e *entry) ([]byte, bool) { return append(b, e.typeName...), true }},
	{name: "schemaversion", kind: small, optional: true, number: (*entry).version},
	{name: "subject", kind: name, text: func(b []byte, e *entry) ([]byte, bool) { return appendUUID(b, e.Stream), true }},
	{name: "actor", kind: name, optional: true, text: func(b []byte, e *entry) ([]byte, bool) { return appendUUID(b, e.Stream), e.activity }},
	{name: "target", kind: name, optional: true, text: func(b []byte, e *entry) ([]byte, bool) { return appendUUID(b, e.target), e.target != uuid.Nil }},
	{name: "time", kind: instant, number: func(e *entry) (int64, bool) { return e.OccurredAt.UnixMicro(), true }},
	{name: "recordedtime", kind: instant, number: func(e *entry) (int64, bool) { return e.RecordedAt.UnixMicro(), true }},
	{name: "partition", kind: small, number: func(e *entry) (int64, bool) { return int64(e.Partition), true }},
	{name: "sequence", kind: large, number: func(e *entry) (int64, bool) { return int64(e.Sequence), true }}, //nolint:gosec // no log comes to 2^63
	{name: "data", kind: document, optional: true, text: func(b []byte, e *entry) ([]byte, bool) { return append(b, e.data...), e.isJSON }},
	{name: "data_base64", kind: document, optional: true, text: func(b []byte, e *entry) ([]byte, bool) { return append(b, e.data...), !e.isJSON }},
}

// Columns are the names of the columns of CSV and Parquet, in their order.
//
//   - id, source, type, subject, partition and sequence are those of the CloudEvent;
//     schemaversion is the number that the type's name ends with, if it does.
//   - actor is who did an activity, target whom it was done to; both are empty for
//     what is no activity.
//   - time is when it occurred, recordedtime when it was written, to the microsecond.
//   - data is the CloudEvent's data as JSON; data_base64 is there in its place if the
//     event's data is not JSON.
func Columns() (names []string) {
	for _, c := range columns {
		names = append(names, c.name)
	}
	return names
}

// entry is an event with what several columns need of it.
type entry struct {
	events.Recorded
	source   string
	typeName string
	activity bool
	target   uuid.UUID
	data     []byte // of the CloudEvent
	isJSON   bool
}

func newEntry(log string) entry { return entry{source: "/v1/logs/" + log} }

func (e *entry) set(r events.Recorded) {
	e.Recorded = r
	e.typeName = r.Type
	if !utf8.ValidString(r.Type) {
		e.typeName = string([]rune(r.Type)) // as JSON has it
	}
	e.data, e.isJSON = events.AppendData(e.data[:0], r)
	e.activity, e.target = strings.HasPrefix(r.Type, events.ActivityLog+"."), uuid.Nil
	if e.activity {
		if a, err := events.ParseActivity(r.Data); err == nil {
			e.target = a.Target
		}
	}
}

// version is the n of a type that ends with ".vn".
func (e *entry) version() (int64, bool) {
	at := strings.LastIndex(e.Type, ".v")
	if at < 0 {
		return 0, false
	}
	n, err := strconv.ParseUint(e.Type[at+2:], 10, 31)
	return int64(n), err == nil //nolint:gosec // of 31 bits
}

func appendUUID(b []byte, u uuid.UUID) []byte {
	b = append(hex.AppendEncode(b, u[:4]), '-')
	b = append(hex.AppendEncode(b, u[4:6]), '-')
	b = append(hex.AppendEncode(b, u[6:8]), '-')
	b = append(hex.AppendEncode(b, u[8:10]), '-')
	return hex.AppendEncode(b, u[10:])
}

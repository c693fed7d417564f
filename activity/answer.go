package activity

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/problem"
)

// answerSize is about how many bytes an answer takes.
const answerSize = 384

// answer is what a client is told of an activity that is in the log.
type answer struct {
	id, actor, target      uuid.UUID
	kind                   Kind
	occurredAt, recordedAt time.Time
	at                     events.Position
}

// answerOf reads an activity back from the log. It is false if the event is
// something else.
func answerOf(e events.Recorded) (answer, bool) {
	kind := KindOf(e.Type)
	payload, err := events.ParseActivity(e.Data)
	if kind == "" || err != nil {
		return answer{}, false
	}
	return answer{
		id: e.ID, actor: e.Stream, target: payload.Target, kind: kind,
		occurredAt: e.OccurredAt, recordedAt: e.RecordedAt, at: e.Position,
	}, true
}

// appendJSON appends the answer as one JSON object.
func (a *answer) appendJSON(b []byte) []byte {
	b = append(b, '{')
	b = a.appendFields(b)
	return append(b, '}')
}

func (a *answer) appendFields(b []byte) []byte {
	b = append(b, `"id":"`...)
	b = appendID(b, a.id)
	b = append(b, `","type":"`...)
	b = append(b, a.kind...)
	b = append(b, `","actor":"`...)
	b = appendID(b, a.actor)
	b = append(b, `","target":"`...)
	b = appendID(b, a.target)
	b = append(b, `","occurred_at":"`...)
	b = appendTime(b, a.occurredAt)
	b = append(b, `","recorded_at":"`...)
	b = appendTime(b, a.recordedAt)
	b = append(b, `","partition":`...)
	b = strconv.AppendInt(b, int64(a.at.Partition), 10)
	b = append(b, `,"sequence":`...)
	return strconv.AppendUint(b, a.at.Sequence, 10)
}

// appendLine appends the answer as a line of a batch's answer.
func (a *answer) appendLine(b []byte, line, status int) []byte {
	b = appendLineStart(b, line, status)
	b = append(b, ',')
	b = a.appendFields(b)
	return append(b, "}\n"...)
}

// appendRefusal appends the line for an activity that was not accepted. id is nil
// if it has none that could be read.
func appendRefusal(b []byte, line int, id uuid.UUID, p *problem.Problem) []byte {
	b = appendLineStart(b, line, p.Status)
	if id != uuid.Nil {
		b = append(b, `,"id":"`...)
		b = appendID(b, id)
		b = append(b, '"')
	}
	// A Problem holds only strings and an int: it can always be encoded.
	rest, _ := json.Marshal(struct {
		Title  string               `json:"title"`
		Detail string               `json:"detail,omitempty"`
		Errors []problem.FieldError `json:"errors,omitempty"`
	}{p.Title, p.Detail, p.Errors})
	b = append(b, ',')
	b = append(b, rest[1:]...)
	return append(b, '\n')
}

func appendLineStart(b []byte, line, status int) []byte {
	b = append(b, `{"line":`...)
	b = strconv.AppendInt(b, int64(line), 10)
	b = append(b, `,"status":`...)
	return strconv.AppendInt(b, int64(status), 10)
}

func appendID(b []byte, id uuid.UUID) []byte {
	const digits = "0123456789abcdef"
	for i, x := range id {
		if i == 4 || i == 6 || i == 8 || i == 10 {
			b = append(b, '-')
		}
		b = append(b, digits[x>>4], digits[x&15])
	}
	return b
}

// appendTime appends a time in UTC with all six digits of its microseconds.
func appendTime(b []byte, t time.Time) []byte {
	return t.UTC().AppendFormat(b, "2006-01-02T15:04:05.000000Z")
}

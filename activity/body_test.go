package activity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

// FuzzTheShortWayReadsWhatDecodeStrictReads: whatever scanBody accepts,
// web.DecodeStrict accepts, and both read the same.
func FuzzTheShortWayReadsWhatDecodeStrictReads(f *testing.F) {
	for _, s := range []string{
		`{"type":"visit","target":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0"}`,
		` { "type" : "like" , "id" : "" , "occurred_at":"2026-01-01T00:00:00Z","actor":"x"} ` + "\r\n",
		`{}`, `{"type":null}`, `{"type":"a","type":"b"}`, `{"type":"a\u0062"}`, `{"Type":"a"}`,
		`{"type":"ü"}`, `{"type":"a",}`, `{"type":"a"}}`, `{"type":"a"`, `{"type":"` + "\x7f" + `"}`,
		`{"type":1}`, `[]`, ``, `{"target":"a" "id":"b"}`, `{"":""}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, ok := scanBody(data)
		if !ok {
			return
		}
		var want wireBody
		if err := web.DecodeStrict(data, &want); err != nil {
			t.Fatalf("%q is accepted, and DecodeStrict says %v", data, err)
		}
		for _, field := range []struct {
			got  []byte
			want *string
		}{
			{got.kind, want.Type}, {got.target, want.Target}, {got.id, want.ID},
			{got.occurredAt, want.OccurredAt}, {got.actor, want.Actor},
		} {
			if (field.got == nil) != (field.want == nil) || field.want != nil && string(field.got) != *field.want {
				t.Fatalf("%q: %q, DecodeStrict reads %v", data, field.got, field.want)
			}
		}
	})
}

func TestOrdinaryBodiesTakeTheShortWay(t *testing.T) {
	for _, s := range []string{
		`{"type":"visit","target":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0"}`,
		"{\n  \"type\": \"visit\",\n  \"target\": \"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0\",\n  \"id\": \"x\",\n  \"occurred_at\": \"y\",\n  \"actor\": \"z\"\n}\n",
	} {
		if _, ok := scanBody([]byte(s)); !ok {
			t.Errorf("%s takes the long way", s)
		}
	}
}

// FuzzBodies: no body makes the checks panic, and what they let through is an
// event that a log takes.
func FuzzBodies(f *testing.F) {
	f.Add([]byte(`{"type":"visit","target":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0"}`), true)
	f.Add([]byte(`{"type":"like","target":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0","occurred_at":"1970-01-01T00:00:00Z","actor":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a1"}`), true)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	self := uuid.MustParse("0195d3a0-0000-7000-8000-000000000001")
	f.Fuzz(func(t *testing.T, data []byte, trusted bool) {
		b, err := decodeBody(data)
		if err != nil {
			if p := problem.Of(err); p.Status != 400 && p.Status != 422 {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		c, err := newCommand(b, caller{id: self, trusted: trusted}, now, uuid.New)
		if err != nil {
			if p := problem.Of(err); p.Status != 422 || len(p.Errors) == 0 {
				t.Fatalf("%q: %v", data, err)
			}
			return
		}
		e := c.event(pair{joinedAt: now})
		if err := e.Validate(); err != nil {
			t.Fatalf("%q: %v", data, err)
		}
		if c.actor == c.target || c.occurredAt.After(now.Add(MaxSkew)) || !trusted && (c.actor != self || c.occurredAt.Before(now.Add(-MaxAge))) {
			t.Fatalf("%q gives %+v", data, c)
		}
	})
}

func TestAnswersAreWhatEncodingJSONWouldWrite(t *testing.T) {
	a := answer{
		id: uuid.New(), actor: uuid.New(), target: uuid.New(), kind: Unlike,
		occurredAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
		recordedAt: time.Date(2026, 1, 2, 3, 4, 5, 678901000, time.FixedZone("", 3600)),
		at:         events.Position{Partition: 15, Sequence: 1<<64 - 1},
	}
	type fields struct {
		ID         uuid.UUID `json:"id"`
		Type       Kind      `json:"type"`
		Actor      uuid.UUID `json:"actor"`
		Target     uuid.UUID `json:"target"`
		OccurredAt string    `json:"occurred_at"`
		RecordedAt string    `json:"recorded_at"`
		Partition  int       `json:"partition"`
		Sequence   uint64    `json:"sequence"`
	}
	f := fields{a.id, a.kind, a.actor, a.target, "2026-01-02T03:04:05.000000Z", "2026-01-02T02:04:05.678901Z", 15, 1<<64 - 1}
	want, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	got := a.appendJSON(nil)
	if string(got) != string(want) {
		t.Errorf("%s, want %s", got, want)
	}
	if len(got) > answerSize {
		t.Errorf("an answer has %d bytes, room is made for %d", len(got), answerSize)
	}
	wantLine := append([]byte(`{"line":7,"status":201,`), want[1:]...)
	if got := a.appendLine(nil, 7, 201); !bytes.Equal(got, append(wantLine, '\n')) {
		t.Errorf("%s, want %s", got, wantLine)
	}
}

func TestARefusedLineIsOneLineOfJSON(t *testing.T) {
	id := uuid.New()
	p := problem.Invalid(problem.Field("evil\n\"field\"", "must not be there"))
	got := appendRefusal(nil, 3, id, p)
	if n := bytes.Count(got, []byte("\n")); n != 1 || got[len(got)-1] != '\n' {
		t.Errorf("%d line ends in %q", n, got)
	}
	var back struct {
		Line, Status  int
		ID            uuid.UUID
		Title, Detail string
		Errors        []problem.FieldError
	}
	if err := json.Unmarshal(got, &back); err != nil {
		t.Fatal(err)
	}
	if back.Line != 3 || back.Status != 422 || back.ID != id || back.Title != p.Title || fmt.Sprint(back.Errors) != fmt.Sprint(p.Errors) {
		t.Errorf("%+v", back)
	}
}

package activity

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/service/problem"
)

// FuzzBatch: every line of whatever body is either an event that a log takes or
// refused with a problem of its own, and the answer has one line for each.
func FuzzBatch(f *testing.F) {
	const good = `{"type":"visit","target":"7b2e3f0a-52a1-4a55-8f77-0d3ae1f3a9a0"}`
	f.Add([]byte(good), false)
	f.Add([]byte(good+"\n"+good+"\r\n\n{}\n"), true)
	f.Add([]byte(`{"id":"0195d3a0-0000-7000-8000-000000000009","type":"like","target":"x"}`+"\n\xff\n["), false)
	f.Add([]byte("\n"), true)
	f.Add(bytes.Repeat([]byte("\n"), MaxLines), false)
	f.Add(append(bytes.Repeat([]byte(" "), MaxLineBytes), good...), false)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	s := &Service{deps: Deps{Clock: func() time.Time { return now }, NewID: uuid.New}}
	from := caller{id: uuid.MustParse("0195d3a0-0000-7000-8000-000000000001")}
	f.Fuzz(func(t *testing.T, body []byte, trusted bool) {
		from := from
		from.trusted = trusted
		b, err := newBatch(s, body, from)
		if err != nil {
			if p := problem.Of(err); p.Status != 400 && p.Status != 413 {
				t.Fatal(err)
			}
			return
		}
		if n := bytes.Count(bytes.TrimSuffix(body, []byte("\n")), []byte("\n")) + 1; len(b.lines) != n || n > MaxLines {
			t.Fatalf("%d lines are answered, %d were sent", len(b.lines), n)
		}
		var answers []byte
		for i := range b.lines {
			l := &b.lines[i]
			if !l.open() {
				if l.problem.Status != 400 && l.problem.Status != 413 && l.problem.Status != 422 {
					t.Fatalf("line %d: %v", i+1, l.problem)
				}
				answers = l.appendLine(answers, i+1)
				continue
			}
			e := l.command.event(pair{joinedAt: now})
			if err := e.Validate(); err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
		}
		for line := range bytes.Lines(answers) {
			if !bytes.HasPrefix(line, []byte(`{"line":`)) || !bytes.HasSuffix(line, []byte("}\n")) {
				t.Fatalf("answered %q", line)
			}
		}
	})
}

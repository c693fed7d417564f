package dataset_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/activity"
	"github.com/meet5/backend/cmd/dataset"
	"github.com/meet5/backend/events"
)

// FuzzReader: no file makes the reader panic or go on for ever; a row that it
// gives is an activity of two members whose event a log takes, and reading the
// file again gives the same events.
func FuzzReader(f *testing.F) {
	f.Add("u,i,ts,label\n1,2,10,0\n2,1,2026-01-02T03:04:05.678Z,1\n", "visit")
	f.Add("\ufeffu,i,ts,label\r\na,b,12.5,\r\n\"a\nb\",c,1e3,x\r\n", "like")
	f.Add("label,ts,i,u\n0,-1,b,a\n0,9e99,b,a\n0,NaN,b,a\n\n,,,\na\n\"", "")
	f.Add("u,i,ts,label,kind\n1,2,3,0,unlike\n1,2,3,0,hug\n00000000-0000-0000-0000-000000000000,1,1,0,visit\n", "kind")
	f.Fuzz(func(t *testing.T, text, kind string) {
		c := columns
		c.Type = kind
		first, bad := readAll(t, text, c)
		second, badAgain := readAll(t, text, c)
		if len(first) != len(second) || bad != badAgain {
			t.Fatalf("%d rows and %d faults, then %d and %d", len(first), bad, len(second), badAgain)
		}
		for i, r := range first {
			if r.Actor.ID == r.Target.ID || r.Actor.ID == uuid.Nil || r.Target.ID == uuid.Nil {
				t.Fatalf("line %d: %v and %v", r.Line, r.Actor, r.Target)
			}
			if r.Kind != activity.Visit && r.Kind != activity.Like && r.Kind != activity.Unlike {
				t.Fatalf("line %d: kind %q", r.Line, r.Kind)
			}
			e := events.Event{ID: r.ID(), Type: events.ProfileVisited, Stream: r.Actor.ID, OccurredAt: r.At, Data: []byte("{}")}
			if err := e.Validate(); err != nil {
				t.Fatalf("line %d: %v", r.Line, err)
			}
			if r.ID() != second[i].ID() {
				t.Fatalf("line %d: its event has another ID the second time", r.Line)
			}
		}
	})
}

// readAll reads a file to its end and counts the rows that cannot be read.
func readAll(t *testing.T, text string, c dataset.Columns) (rows []dataset.Row, bad int) {
	t.Helper()
	r, err := dataset.NewReader(strings.NewReader(text), c, dataset.Members{})
	if err != nil {
		return nil, -1
	}
	// A row takes a byte at least, be it good or bad.
	for range len(text) + 1 {
		row, err := r.Next()
		_, faulty := errors.AsType[*dataset.RowError](err)
		switch {
		case errors.Is(err, io.EOF):
			return rows, bad
		case faulty:
			bad++
		case err != nil:
			t.Fatal(err)
		default:
			rows = append(rows, row)
		}
	}
	t.Fatalf("the end is not reached after %d rows and %d faults", len(rows), bad)
	return nil, 0
}

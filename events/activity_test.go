package events_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
)

// Shapes that an activity's payload has beside those of samples.
var shapes = map[string]events.Activity{
	"of-a-visible-target": {Target: id(2), JoinedAt: at, TargetJoinedAt: at.Add(-time.Hour)},
	"of-a-hidden-target":  {Target: id(2), JoinedAt: at, Trusted: true, TargetJoinedAt: at.Add(-time.Hour), TargetHidden: true},
}

func TestAnActivityKeepsItsGoldenBytesInEveryShape(t *testing.T) {
	for name, sample := range shapes {
		t.Run(name, func(t *testing.T) {
			got := sample.AppendJSON(nil)
			path := filepath.Join("testdata", "shapes", events.ProfileVisited+"."+name+".json")
			want, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) && *update {
				err, want = os.WriteFile(path, append(got, '\n'), 0o644), got
			}
			if err != nil {
				t.Fatal(err)
			}
			want = bytes.TrimSpace(want)
			if !bytes.Equal(got, want) {
				t.Fatalf("a released shape changed\n got %s\nwant %s", got, want)
			}
			// Fields in another order take the long way.
			other := strings.Replace(string(want), `{"target":"`+id(2).String()+`",`, "{", 1)
			other = strings.TrimSuffix(other, "}") + `,"target":"` + id(2).String() + `"}`
			for _, data := range []string{string(want), other} {
				if back, err := events.ParseActivity([]byte(data)); err != nil || !reflect.DeepEqual(back, sample) {
					t.Errorf("%s was read as %+v, %v", data, back, err)
				}
			}
			if plain, err := json.Marshal(sample); err != nil || !bytes.Equal(plain, want) {
				t.Errorf("encoding/json makes %s of it, %v", plain, err)
			}
		})
	}
}

// A target that is hidden, but made at no time that is known, is not written: nobody
// could tell it from one that is not known.
func TestNothingIsWrittenOfATargetThatIsNotKnown(t *testing.T) {
	known := events.Activity{Target: id(2), JoinedAt: at, Trusted: true}
	hidden := known
	hidden.TargetHidden = true
	if got, want := hidden.AppendJSON(nil), known.AppendJSON(nil); !bytes.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAnExportSaysWhatIsKnownOfTheTarget(t *testing.T) {
	for name, sample := range shapes {
		e := events.Recorded{Event: events.Event{ID: id(3), Type: events.ProfileLiked, Stream: id(1), OccurredAt: at, Data: sample.AppendJSON(nil)}, RecordedAt: at}
		var got struct{ Data map[string]any }
		if err := json.Unmarshal(events.AppendCloudEvent(nil, events.ActivityLog, e), &got); err != nil {
			t.Fatal(err)
		}
		if got.Data["target_joined_at"] != "2026-11-21T09:20:30.123456Z" || got.Data["actor"] != id(1).String() ||
			(got.Data["target_hidden"] == true) != sample.TargetHidden {
			t.Errorf("%s: %v", name, got.Data)
		}
	}
}

// Times are written as time.AppendFormat does, and read back.
func TestTimesOfActivitiesAreRFC3339WithMicroseconds(t *testing.T) {
	const layout = "2006-01-02T15:04:05.000000Z"
	rapid.Check(t, func(t *rapid.T) {
		joined := time.Unix(rapid.Int64Range(-62_167_219_200, 253_402_300_799).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")).
			In(time.FixedZone("", 60*rapid.IntRange(-840, 840).Draw(t, "zone")))
		data := events.Activity{Target: id(2), JoinedAt: joined, TargetJoinedAt: joined}.AppendJSON(nil)
		want := joined.UTC().Format(layout)
		if n := strings.Count(string(data), want); n != 2 {
			t.Fatalf("%s is in %s %d times", want, data, n)
		}
		if back, err := events.ParseActivity(data); err != nil || !back.JoinedAt.Equal(joined.Truncate(time.Microsecond)) {
			t.Fatalf("%s was read as %+v, %v", data, back, err)
		}
	})
}

// BenchmarkActivity is the payload's way out and in, of an event of an earlier build or
// an import and of one that says all.
func BenchmarkActivity(b *testing.B) {
	for _, c := range []struct {
		name   string
		sample events.Activity
	}{
		{"without target", events.Activity{Target: id(2), JoinedAt: at}},
		{"with target", shapes["of-a-visible-target"]},
	} {
		data := c.sample.AppendJSON(nil)
		b.Run("append "+c.name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, 256)
			for b.Loop() {
				buf = c.sample.AppendJSON(buf[:0])
			}
		})
		b.Run("parse "+c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := events.ParseActivity(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

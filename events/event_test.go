package events_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
)

var update = flag.Bool("update", false, "write golden files of types that have none yet")

func id(n byte) uuid.UUID { return uuid.UUID{0: n, 6: 0x70, 8: 0x80, 15: n} }

var at = time.Date(2026, 11, 21, 10, 20, 30, 123456000, time.UTC)

// samples holds one payload for each type of the catalogue.
func samples() map[string]any {
	assignee := id(7)
	decision := events.Decision{User: id(2), Rule: "meet5-first-minutes", By: id(3), Note: "a script"}
	step := events.BacktestStep{Instance: id(4), Events: 10, Total: 20}
	activity := events.Activity{Target: id(2), JoinedAt: at}
	trusted := activity
	trusted.Trusted = true
	return map[string]any{
		events.BulkDecided: events.BulkDecision{
			By: id(3), Decision: "dismiss", Note: "all the same", Filter: json.RawMessage(`{"rule":"meet5-first-minutes"}`),
			Flags:   []events.BulkFlag{{Flag: id(6), Version: 3, Before: events.Standpoint{State: "open", Escalated: true, DecidedAt: &at}}},
			Refused: []events.BulkRefusal{{Flag: id(7), Status: 409, Detail: "the flag is dismissed"}},
		},
		events.BulkUndone: events.BulkUndo{
			By: id(3), Note: "wrong rule", Flags: []uuid.UUID{id(6)},
			Refused: []events.BulkRefusal{{Flag: id(7), Status: 409, Detail: "the flag is appealed"}},
		},
		events.DecisionUndone: events.UndoneDecision{
			User: id(2), Rule: "meet5-first-minutes", By: id(3), Note: "wrong rule", Bulk: id(12), Undoes: "dismiss",
			Standpoint: events.Standpoint{State: "open", Escalated: true, DecidedAt: &at},
		},
		events.FlagExpired:    events.Expiry{User: id(2), Rule: "meet5-first-minutes"},
		events.ActorHidden:    events.Visibility{Cause: id(4)},
		events.ActorRestored:  events.Visibility{Cause: id(5)},
		events.LikeWithdrawn:  activity,
		events.ProfileLiked:   trusted,
		events.ProfileVisited: activity,
		events.BacktestRequested: events.BacktestRequest{
			By: id(3), Rules: []json.RawMessage{json.RawMessage(`{"id":"like-storm"}`)}, Since: &at, Until: &at,
			Against: "decisions", Sample: 20, Curve: true, Thresholds: []int{5, 10},
		},
		events.BacktestStarted:    step,
		events.BacktestProgressed: step,
		events.BacktestReturned:   step,
		events.BacktestFinished:   events.BacktestEnd{Instance: id(4), Events: 7, Total: 9, Error: "it was taken up three times", Report: json.RawMessage(`{"events":7}`)},
		events.BacktestCancelled:  events.BacktestWithdrawal{By: id(3)},
		events.BacktestRemoved:    events.BacktestWithdrawal{By: id(3)},
		events.FlagAppealed:       events.Appeal{User: id(2), Text: "that was me"},
		events.FlagAssigned:       events.Assignment{Assignee: &assignee, By: id(3)},
		events.FlagConfirmed:      decision,
		events.FlagDismissed:      decision,
		events.FlagEscalated:      decision,
		events.FlagNoted:          events.Note{By: id(3), Text: "see also"},
		events.FlagOverturned:     decision,
		events.FlagUpheld:         decision,
		events.FlagRaised: events.Flag{
			User: id(2), Rule: "meet5-first-minutes", RuleVersion: "0123456789abcdef", Score: 90, Observed: 100, Threshold: 100,
			Evidence: []events.Evidence{{EventID: id(8), Type: events.ProfileVisited, Target: id(9), OccurredAt: at, Position: events.Position{Partition: 3, Sequence: 14}}},
		},
		events.RuleDefined: events.RuleDefinition{
			Rule: "meet5-first-minutes", Version: "0123456789abcdef", Mode: "live", Spec: json.RawMessage(`{"threshold":100}`), By: "rulebook", Why: "it is in the rule book",
		},
		events.RuleModeChanged:      events.RuleMode{Rule: "meet5-first-minutes", From: "shadow", To: "live", By: "rulebook", Why: "precise enough"},
		events.RuleTookEffect:       events.RuleEffect{Rule: "meet5-first-minutes", Version: "0123456789abcdef", Mode: "live", After: []uint64{12, 0, 345}},
		events.OrderCut:             events.Cut{Through: []uint64{12, 0, 345}},
		events.UserCleared:          events.Standing{Flag: id(6).String(), Rule: "meet5-first-minutes"},
		events.UserErased:           events.Erasure{By: "self"},
		events.UserMarkedFraudulent: events.Standing{Flag: id(6).String(), Rule: "meet5-first-minutes"},
		events.UserProfileChanged:   events.ProfileChange{Sealed: []byte{1, 2, 3}},
		events.UserRegistered:       events.Registration{Sealed: []byte{1, 2, 3}, Roles: []string{"admin"}, JoinedAt: at},
		events.UserRolesChanged:     events.Roles{Roles: []string{"analyst", "moderator"}, By: id(3).String()},
	}
}

func TestEveryTypeKeepsItsGoldenPayload(t *testing.T) {
	all := samples()
	for _, k := range events.Catalogue() {
		t.Run(k.Type, func(t *testing.T) {
			sample, ok := all[k.Type]
			if !ok {
				t.Fatal("no sample payload")
			}
			got, err := json.Marshal(sample)
			if err != nil {
				t.Fatal(err)
			}
			path := filepath.Join("testdata", "golden", k.Type+".json")
			want, err := os.ReadFile(path)
			if errors.Is(err, os.ErrNotExist) && *update {
				err, want = os.WriteFile(path, append(got, '\n'), 0o644), got
			}
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, bytes.TrimSpace(want)) {
				t.Fatalf("a released type changed; make a new version instead\n got %s\nwant %s", got, want)
			}
			back := k.New()
			if err := json.Unmarshal(want, back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(reflect.ValueOf(back).Elem().Interface(), sample) {
				t.Fatalf("read back %+v, want %+v", back, sample)
			}
		})
	}
	if len(all) != len(events.Catalogue()) {
		t.Errorf("%d samples for %d types", len(all), len(events.Catalogue()))
	}
}

func TestTheCatalogueIsSortedAndNamesItsLogs(t *testing.T) {
	names := []string{}
	for _, k := range events.Catalogue() {
		names = append(names, k.Log+" "+k.Type)
		if !strings.HasPrefix(k.Type, k.Log+".") {
			t.Errorf("%s is kept in the log %s", k.Type, k.Log)
		}
	}
	slices.SortFunc(names, strings.Compare)
	for i, k := range events.Catalogue() {
		if names[i] == k.Log+" "+k.Type {
			continue
		}
		t.Fatalf("entry %d is %s, sorted it would be %s", i, k.Type, names[i])
	}
}

func sampleEvents() []events.Event {
	data, _ := json.Marshal(events.Activity{Target: id(2), JoinedAt: at})
	return []events.Event{
		{ID: id(10), Type: events.ProfileVisited, Stream: id(1), OccurredAt: at.Add(-time.Second), Data: data},
		{ID: id(11), Type: events.UserRegistered, Stream: id(3), Version: 1, OccurredAt: at, Claims: []string{"handle:a", "email:b"}, Data: []byte("{}")},
		{ID: id(12), Type: "later.thing.v9", Stream: id(1), OccurredAt: at.Add(time.Hour), Data: []byte{0xff, 0}},
	}
}

func sampleCommit(t testing.TB) events.Commit {
	c, err := events.Encode("activity", 3, 41, at, id(99), sampleEvents())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestACommitKeepsItsGoldenBytes(t *testing.T) {
	path := filepath.Join("testdata", "golden", "commit.v1.hex")
	got := hex.EncodeToString(sampleCommit(t).Bytes())
	want, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *update {
		err, want = os.WriteFile(path, []byte(got+"\n"), 0o600), []byte(got)
	}
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.TrimSpace(string(want)) {
		t.Fatalf("the stored format changed\n got %s\nwant %s", got, want)
	}
}

func TestACommitComesBackAsItWasEncoded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		evs := rapid.SliceOfN(rapid.Custom(drawEvent), 1, 20).Draw(t, "events")
		first := rapid.Uint64Range(1, 1<<40).Draw(t, "first")
		c, err := events.Encode("activity", 7, first, at, id(9), evs)
		if err != nil {
			t.Fatal(err)
		}
		back, err := events.Decode(c.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		if back.Log != "activity" || back.Partition != 7 || back.First != first || back.Count != len(evs) || back.Writer != id(9) || !back.RecordedAt.Equal(at) {
			t.Fatalf("header came back as %+v", back)
		}
		after := rapid.Uint64Range(first-1, first+uint64(len(evs))).Draw(t, "after")
		want := int(after + 1 - first)
		for e := range back.EventsAfter(after) {
			if !reflect.DeepEqual(e.Event, evs[want]) || e.Sequence != first+uint64(want) || e.Partition != 7 || !e.RecordedAt.Equal(at) {
				t.Fatalf("event %d came back as %+v, was %+v", want, e, evs[want])
			}
			want++
		}
		if want < len(evs) {
			t.Fatalf("only %d of %d events came back", want, len(evs))
		}
	})
}

func drawEvent(t *rapid.T) events.Event {
	return events.Event{
		ID:         id(rapid.Byte().Draw(t, "id")),
		Type:       rapid.SampledFrom([]string{events.ProfileVisited, events.ProfileLiked, "x.y.v1"}).Draw(t, "type"),
		Stream:     id(rapid.Byte().Draw(t, "stream")),
		Version:    rapid.Uint64().Draw(t, "version"),
		OccurredAt: at.Add(time.Duration(rapid.Int64Range(-1e12, 1e12).Draw(t, "offset")) * time.Microsecond),
		Claims:     rapid.SliceOfN(rapid.String(), 0, 3).Filter(func(s []string) bool { return s == nil || len(s) > 0 }).Draw(t, "claims"),
		Data:       rapid.SliceOf(rapid.Byte()).Filter(func(b []byte) bool { return b != nil }).Draw(t, "data"),
	}
}

func TestAnyHarmToACommitIsSeen(t *testing.T) {
	whole := sampleCommit(t).Bytes()
	for i := range whole {
		for _, harmed := range [][]byte{whole[:i], flip(whole, i)} {
			if _, err := events.Decode(harmed); !errors.Is(err, events.ErrCorrupt) {
				t.Fatalf("harm at byte %d of %d: %v, want ErrCorrupt", i, len(whole), err)
			}
		}
	}
	if _, err := events.Decode(append(slices.Clone(whole), 0)); !errors.Is(err, events.ErrCorrupt) {
		t.Fatalf("a byte too many: %v, want ErrCorrupt", err)
	}
}

func flip(b []byte, i int) []byte {
	b = slices.Clone(b)
	b[i] ^= 0x10
	return b
}

func FuzzDecode(f *testing.F) {
	f.Add(sampleCommit(f).Bytes(), true)
	f.Fuzz(func(t *testing.T, b []byte, mend bool) {
		if mend && len(b) >= 8 {
			b = slices.Clone(b)
			events.Reseal(b) // get past the checksum
		}
		c, err := events.Decode(b)
		if err != nil {
			return
		}
		n := 0
		for range c.Events() {
			n++
		}
		if n != c.Count {
			t.Fatalf("%d events of %d", n, c.Count)
		}
	})
}

func FuzzParseActivity(f *testing.F) {
	f.Add([]byte(`{"target":"00000000-0000-7000-8000-000000000002","joined_at":"2026-11-21T10:20:30.123456Z"}`))
	f.Add([]byte(`{"target":"00000000-0000-7000-8000-000000000002","joined_at":"2026-02-30T10:20:30.123456Z","trusted":true}`))
	f.Add([]byte(`{"target":"00000000-0000-7000-8000-000000000002","joined_at":"2026-11-21T10:20:30.123456Z","target_joined_at":"2026-11-21T10:20:30.123456Z"}`))
	f.Add([]byte(`{"target":"00000000-0000-7000-8000-000000000002","joined_at":"2026-11-21T10:20:30.123456Z","trusted":true,"target_joined_at":"2026-02-30T10:20:30.123456Z","target_hidden":true}`))
	f.Add([]byte(`{"target":"00000000-0000-7000-8000-000000000002","joined_at":"2026-11-21T10:20:30.123456Z","target_hidden":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		type plain events.Activity
		var want plain
		wantErr := json.Unmarshal(b, &want)
		got, err := events.ParseActivity(b)
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v, encoding/json says %v", b, err, wantErr)
		}
		if err == nil && (got.Target != want.Target || !got.JoinedAt.Equal(want.JoinedAt) || got.Trusted != want.Trusted ||
			!got.TargetJoinedAt.Equal(want.TargetJoinedAt) || got.TargetHidden != want.TargetHidden) {
			t.Fatalf("%q: %+v, encoding/json says %+v", b, got, want)
		}
	})
}

func TestAStreamStaysInItsPartition(t *testing.T) {
	for _, c := range []struct {
		stream string
		want   int
	}{
		{"00000000-0000-7000-8000-000000000001", 5},
		{"8b9d6b5c-6a3b-5f0e-9c57-0a4f8f1c2d3e", 8},
	} {
		if got := events.PartitionOf(uuid.MustParse(c.stream), 16); got != c.want {
			t.Errorf("%s is in partition %d, want %d: events already stored would be lost", c.stream, got, c.want)
		}
	}
	counts := make([]int, 16)
	for n := range 16_000 {
		counts[events.PartitionOf(events.DeriveID(uuid.NameSpaceOID, string(rune(n))), 16)]++
	}
	for p, n := range counts {
		if n < 850 || n > 1150 {
			t.Errorf("partition %d has %d of 16,000 streams", p, n)
		}
	}
}

func TestAnExportedEventIsOneLineWhateverItsDataIs(t *testing.T) {
	for data, want := range map[string]string{
		"{\n\t\"text\": \"a\\nb\",\r\n\"n\": [1,\n2]}": `"data":{"actor":"` + id(1).String() + `","text": "a\nb",  "n": [1, 2]}`,
		"{}":             `"data":{"actor":"` + id(1).String() + `"}`,
		"{ \n}":          `"data":{"actor":"` + id(1).String() + `"}`,
		"\t[1]":          `"data": [1]`,
		"\"\xff\"":       `"data_base64":"Iv8i"`, // a CloudEvent is UTF-8
		"no JSON":        `"data_base64":"bm8gSlNPTg=="`,
		"":               `"data_base64":""`,
		`{"a":"\u0000"}`: `"data":{"actor":"` + id(1).String() + `","a":"\u0000"}`,
	} {
		e := events.Recorded{Event: events.Event{Type: events.ProfileVisited, Stream: id(1), Data: []byte(data)}}
		got := string(events.AppendCloudEvent(nil, events.ActivityLog, e))
		if !strings.HasSuffix(got, ","+want+"}") || !json.Valid([]byte(got)) || !utf8.ValidString(got) || strings.ContainsAny(got, "\r\n") {
			t.Errorf("data %q goes out in %s", data, got)
		}
		part, isJSON := events.AppendData([]byte("before"), e)
		if _, value, _ := strings.Cut(want, ":"); isJSON != strings.HasPrefix(want, `"data":`) || string(part) != "before"+strings.Trim(value, map[bool]string{false: `"`}[isJSON]) {
			t.Errorf("data %q alone is %s, %t", data, part, isJSON)
		}
	}
}

func TestAnExportedEventIsACloudEvent(t *testing.T) {
	var got []map[string]any
	for e := range sampleCommit(t).Events() {
		var m map[string]any
		if err := json.Unmarshal(events.AppendCloudEvent(nil, "activity", e), &m); err != nil {
			t.Fatal(err)
		}
		got = append(got, m)
	}
	want := map[string]any{
		"specversion": "1.0", "id": id(10).String(), "source": "/v1/logs/activity", "type": events.ProfileVisited,
		"subject": id(1).String(), "time": "2026-11-21T10:20:29.123456Z", "datacontenttype": "application/json",
		"recordedtime": "2026-11-21T10:20:30.123456Z", "partition": 3.0, "sequence": 41.0,
		"data": map[string]any{"actor": id(1).String(), "target": id(2).String(), "joined_at": "2026-11-21T10:20:30.123456Z"},
	}
	if !reflect.DeepEqual(got[0], want) {
		t.Errorf("got  %v\nwant %v", got[0], want)
	}
	if got[2]["data_base64"] != "/wA=" || got[2]["type"] != "later.thing.v9" {
		t.Errorf("an unknown type with opaque data went out as %v", got[2])
	}
}

func BenchmarkDecodeAndRead(b *testing.B) {
	data, _ := json.Marshal(events.Activity{Target: id(2), JoinedAt: at})
	evs := make([]events.Event, 500)
	for i := range evs {
		evs[i] = events.Event{ID: uuid.New(), Type: events.ProfileVisited, Stream: uuid.New(), OccurredAt: at, Data: data}
	}
	c, err := events.Encode("activity", 3, 1, at, id(99), evs)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("decode", func(b *testing.B) {
		for b.Loop() {
			c, _ := events.Decode(c.Bytes())
			for range c.Events() {
			}
		}
		b.ReportMetric(float64(b.N*len(evs))/b.Elapsed().Seconds(), "events/s")
	})
	b.Run("decode and parse payloads", func(b *testing.B) {
		for b.Loop() {
			c, _ := events.Decode(c.Bytes())
			for e := range c.Events() {
				if _, err := events.ParseActivity(e.Data); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric(float64(b.N*len(evs))/b.Elapsed().Seconds(), "events/s")
	})
	b.Run("encode", func(b *testing.B) {
		for b.Loop() {
			if _, err := events.Encode("activity", 3, 1, at, id(99), evs); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N*len(evs))/b.Elapsed().Seconds(), "events/s")
	})
}

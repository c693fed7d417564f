package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"encoding/json"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/projections/export"
)

// These two are what files that analysts keep have. Add to the end; change nothing.
const (
	header = "id,source,type,schemaversion,subject,actor,target,time,recordedtime,partition,sequence,data,data_base64\r\n"
	schema = `message event {
	required binary id (STRING);
	required binary source (STRING);
	required binary type (STRING);
	optional int32 schemaversion (INT(32,true));
	required binary subject (STRING);
	optional binary actor (STRING);
	optional binary target (STRING);
	required int64 time (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	required int64 recordedtime (TIMESTAMP(isAdjustedToUTC=true,unit=MICROS));
	required int32 partition (INT(32,true));
	required int64 sequence (INT(64,true));
	optional binary data (STRING);
	optional binary data_base64 (STRING);
}`
)

func TestTheColumnsAreAsTheyWereReleased(t *testing.T) {
	if got := export.Schema(); got != schema {
		t.Errorf("Parquet's schema is %s\nwant %s", got, schema)
	}
	if got := string(written(t, as(export.CSV, events.UserLog), nil)); got != header {
		t.Errorf("CSV of no events is %q, want its header", got)
	}
	at := time.Date(2026, 11, 21, 9, 20, 30, 123_456_000, time.UTC)
	list := []events.Recorded{{
		Event: events.Event{
			ID: uuid.UUID{0: 1, 15: 0xab}, Type: events.ProfileLiked, Stream: uuid.UUID{2}, OccurredAt: at,
			Data: events.Activity{Target: uuid.UUID{3}, JoinedAt: at}.AppendJSON(nil),
		},
		Position: events.Position{Partition: 7, Sequence: 12}, RecordedAt: at.Add(time.Microsecond),
	}, {
		Event:    events.Event{ID: uuid.UUID{4}, Type: events.FlagNoted, Stream: uuid.UUID{5}, OccurredAt: at, Data: []byte(`{"text":"so; =1"}`)},
		Position: events.Position{Sequence: 13}, RecordedAt: at,
	}}
	want := header +
		`01000000-0000-0000-0000-0000000000ab,/v1/logs/activity,activity.profile_liked.v1,1,02000000-0000-0000-0000-000000000000,02000000-0000-0000-0000-000000000000,` +
		`03000000-0000-0000-0000-000000000000,2026-11-21T09:20:30.123456Z,2026-11-21T09:20:30.123457Z,7,12,"{""actor"":""02000000-0000-0000-0000-000000000000"",` +
		`""target"":""03000000-0000-0000-0000-000000000000"",""joined_at"":""2026-11-21T09:20:30.123456Z""}",` + "\r\n" +
		`04000000-0000-0000-0000-000000000000,/v1/logs/activity,fraud.flag_noted.v1,1,05000000-0000-0000-0000-000000000000,,,` +
		`2026-11-21T09:20:30.123456Z,2026-11-21T09:20:30.123456Z,0,13,"{""text"":""so\u003b =1""}",` + "\r\n"
	if got := string(written(t, as(export.CSV, events.ActivityLog), list)); got != want {
		t.Errorf("CSV is\n%s\nwant\n%s", got, want)
	}
}

// A spreadsheet parts cells by the comma or, where people write that in numbers, by the
// semicolon, whatever is in the file; some look for tabs.
func TestNoSpreadsheetFindsAFormulaInCSV(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.OneOf(
			rapid.Custom(func(t *rapid.T) []byte { return appeal(t, hostile().Draw(t, "text")) }),
			rapid.Custom(func(t *rapid.T) []byte { return []byte(hostile().Draw(t, "no JSON, perhaps")) }),
			rapid.SliceOf(rapid.Byte()),
			rapid.SampledFrom([][]byte{[]byte("-1"), []byte("\t-1"), {0xf8}, {0xfb, 0xff}}), // base64 may begin with +
		).Draw(t, "data")
		e := event(0).Draw(t, "event")
		e.Type, e.Data = rapid.SampledFrom(events.Catalogue()).Draw(t, "kind").Type, data
		out := written(t, as(export.CSV, events.FraudLog), []events.Recorded{e})
		for _, separator := range ",;\t" {
			reader := csv.NewReader(bytes.NewReader(out))
			reader.Comma, reader.LazyQuotes, reader.FieldsPerRecord = separator, true, -1
			rows, err := reader.ReadAll()
			if err != nil || len(rows) != 2 {
				t.Fatalf("parted by %q it has %d lines, %v:\n%s", separator, len(rows), err, out)
			}
			for _, cell := range rows[1] {
				if cell != "" && strings.ContainsRune("=+-@\t\r", rune(cell[0])) {
					t.Fatalf("parted by %q there is the cell %q in\n%s", separator, cell, out)
				}
			}
		}
	})
}

func appeal(t *rapid.T, text string) []byte {
	b, err := json.Marshal(events.Appeal{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAParquetFileThatBreaksOffIsNone(t *testing.T) {
	var list []events.Recorded
	for i := range 300 {
		list = append(list, events.Recorded{Event: visit(i), RecordedAt: time.Unix(1, 0)})
	}
	whole := written(t, func(to io.Writer) export.Writer { return export.NewSmallGroups(to, events.ActivityLog, 100, 1<<20) }, list)
	file, err := parquet.OpenFile(bytes.NewReader(whole), int64(len(whole)))
	if err != nil || len(file.RowGroups()) != 3 || file.NumRows() != 300 {
		t.Fatalf("the whole file: %+v, %v", file, err)
	}
	for n := range len(whole) {
		if _, err := parquet.OpenFile(bytes.NewReader(whole[:n]), int64(n)); err == nil {
			t.Fatalf("the first %d of %d bytes pass for a file", n, len(whole))
		}
	}
}

func TestARowGroupEndsWithItsRowsOrItsBytes(t *testing.T) {
	for _, c := range []struct {
		rows, bytes int
		data        []byte
		want        []int64
	}{
		{rows: 3, bytes: 1000, data: []byte("{}"), want: []int64{3, 3, 2}},
		{rows: 100, bytes: 1000, data: []byte(`"` + strings.Repeat("x", 398) + `"`), want: []int64{3, 3, 2}},
		{rows: 4, bytes: 1000, data: []byte("{}"), want: []int64{4, 4}},
	} {
		list := make([]events.Recorded, 8)
		for i := range list {
			list[i] = events.Recorded{Event: events.Event{Type: events.FlagNoted, Data: c.data}}
		}
		out := written(t, func(to io.Writer) export.Writer { return export.NewSmallGroups(to, events.FraudLog, c.rows, c.bytes) }, list)
		file, err := parquet.OpenFile(bytes.NewReader(out), int64(len(out)))
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, g := range file.RowGroups() {
			got = append(got, g.NumRows())
		}
		if len(got) != len(c.want) || got[0] != c.want[0] || got[len(got)-1] != c.want[len(got)-1] {
			t.Errorf("groups of %d rows or %d bytes have %v rows, want %v", c.rows, c.bytes, got, c.want)
		}
	}
}

// What a writer keeps is as little as docs/limits.md says, and does not grow with what
// it has written, but for the index of a Parquet file. The first row groups show what
// buffers and dictionaries come to.
func TestMemoryDoesNotGrowWithTheFile(t *testing.T) {
	const kib, groupRows = 1 << 10, 10_000
	for name, c := range map[string]struct {
		writer       func(io.Writer) export.Writer
		rows         int
		most, growth uint64
	}{
		"ndjson":                  {as(export.NDJSON, events.ActivityLog), 6 * groupRows, 256 * kib, 8 * kib},
		"csv":                     {as(export.CSV, events.ActivityLog), 6 * groupRows, 256 * kib, 8 * kib},
		"parquet":                 {as(export.Parquet, events.ActivityLog), export.GroupRows, 20 * kib * kib, 0},
		"parquet in small groups": {smallGroups(groupRows), 6 * groupRows, 20 * kib * kib, 30 * kib},
	} {
		w := c.writer(new(counter))
		var after []uint64
		before := live()
		for i := range c.rows {
			if (i+1)%groupRows == 0 || i+1 == c.rows { // this one may end a row group
				now := live()
				after = append(after, now-min(now, before))
			}
			if err := w.Write(events.Recorded{Event: visit(i), Position: events.Position{Sequence: uint64(i)}, RecordedAt: time.Unix(int64(i), 0)}); err != nil {
				t.Fatal(err)
			}
		}
		if most := slices.Max(after); most > c.most {
			t.Errorf("%s keeps %d bytes, which is more than %d", name, most, c.most)
		}
		if third, last := after[2], after[5]; c.growth > 0 && last > third+3*c.growth {
			t.Errorf("%s keeps %d bytes more after six row groups than after three", name, last-third)
		}
		t.Logf("%s keeps %d bytes as it grows", name, after)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func smallGroups(rows int) func(io.Writer) export.Writer {
	return func(to io.Writer) export.Writer { return export.NewSmallGroups(to, events.ActivityLog, rows, 1<<30) }
}

// Events are of any size, and so few of them are much.
func TestLargeEventsTakeNoMoreMemory(t *testing.T) {
	const most, size, count = 28 << 20, events.MaxData / 2, 400
	w := export.NewWriter(export.Parquet, new(counter), events.FraudLog)
	before, peak, noise := live(), uint64(0), rand.NewChaCha8([32]byte{})
	half := make([]byte, size/2-1)
	for i := range count { // 50 MB that hardly compress
		_, _ = noise.Read(half) // it never fails
		data := []byte(`"` + hex.EncodeToString(half) + `"`)
		if err := w.Write(events.Recorded{Event: events.Event{ID: scattered(i, 1), Type: events.BacktestFinished, Data: data}}); err != nil {
			t.Fatal(err)
		}
		if i%20 == 19 {
			now := live()
			peak = max(peak, now-min(now, before))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if t.Logf("at most %d KiB", peak>>10); peak > most {
		t.Errorf("%d bytes are kept, which is more than %d", peak, most)
	}
}

func TestFormatsAreKnownByNameAndByFile(t *testing.T) {
	for file, want := range map[string]export.Format{
		"a.ndjson": export.NDJSON, "a.csv": export.CSV, "b/A.CSV": export.CSV, "x.parquet": export.Parquet, "csv": export.NDJSON, "": export.NDJSON, "a.csv.gz": export.NDJSON, "/dev/null": export.NDJSON,
	} {
		if got := export.Of(file); got != want {
			t.Errorf("%q is %s, want %s", file, got, want)
		}
	}
	for _, f := range export.Formats() {
		var got export.Format
		if err := got.UnmarshalText([]byte(f.String())); err != nil || got != f || export.Of(f.FileName("user")) != f {
			t.Errorf("%s is read as %s, %v; its file is %s", f, got, err, f.FileName("user"))
		}
	}
	if err := new(export.Format).UnmarshalText([]byte("xml")); err == nil || !strings.Contains(err.Error(), "ndjson, csv or parquet") {
		t.Errorf("another format: %v", err)
	}
}

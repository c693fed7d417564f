package export_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"
	"pgregory.net/rapid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/projections/export"
)

// row is an event as a reader of any format finds it. Its tags are what the columns of
// Parquet are looked for by.
type row struct {
	ID            string  `parquet:"id"`
	Source        string  `parquet:"source"`
	Type          string  `parquet:"type"`
	SchemaVersion *int32  `parquet:"schemaversion,optional"`
	Subject       string  `parquet:"subject"`
	Actor         *string `parquet:"actor,optional"`
	Target        *string `parquet:"target,optional"`
	Time          int64   `parquet:"time,timestamp(microsecond)"`
	RecordedTime  int64   `parquet:"recordedtime,timestamp(microsecond)"`
	Partition     int32   `parquet:"partition"`
	Sequence      int64   `parquet:"sequence"`
	Data          *string `parquet:"data,optional"`
	DataBase64    *string `parquet:"data_base64,optional"`
}

// written is what a writer makes of events.
func written(t fataler, w func(io.Writer) export.Writer, list []events.Recorded) []byte {
	var out bytes.Buffer
	writer := w(&out)
	for _, e := range list {
		if err := writer.Write(e); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type fataler interface{ Fatal(...any) }

func as(f export.Format, log string) func(io.Writer) export.Writer {
	return func(to io.Writer) export.Writer { return export.NewWriter(f, to, log) }
}

func fromLines(t fataler, data []byte) (rows []row) {
	for line := range bytes.Lines(data) {
		var l struct {
			SpecVersion, ID, Source, Type, Subject string
			Time, RecordedTime                     time.Time
			Partition                              int32
			Sequence                               int64
			Data                                   json.RawMessage
			DataBase64                             *string `json:"data_base64"`
		}
		if err := json.Unmarshal(line, &l); err != nil || l.SpecVersion != "1.0" {
			t.Fatal(err, string(line))
		}
		r := row{
			ID: l.ID, Source: l.Source, Type: l.Type, Subject: l.Subject, Time: l.Time.UnixMicro(), RecordedTime: l.RecordedTime.UnixMicro(),
			Partition: l.Partition, Sequence: l.Sequence, DataBase64: l.DataBase64,
		}
		if at := strings.LastIndex(l.Type, ".v"); at >= 0 {
			if n, err := strconv.ParseUint(l.Type[at+2:], 10, 31); err == nil {
				r.SchemaVersion = ptr(int32(n))
			}
		}
		if l.Data != nil {
			r.Data = ptr(string(l.Data))
		}
		if strings.HasPrefix(l.Type, "activity.") {
			r.Actor = &r.Subject
			var of struct{ Actor, Target *string }
			if json.Unmarshal(l.Data, &of) == nil {
				r.Target = of.Target
				if of.Actor != nil && *of.Actor != r.Subject {
					t.Fatal("the actor is not the subject: " + string(line))
				}
			}
		}
		rows = append(rows, r)
	}
	return rows
}

func fromCSV(t fataler, data []byte) (rows []row) {
	reader := csv.NewReader(bytes.NewReader(data))
	header, err := reader.Read()
	if err != nil || !reflect.DeepEqual(header, export.Columns()) {
		t.Fatal("the header is ", header, err)
	}
	for {
		cells, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return rows
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, c := range cells {
			// As the documentation says.
			if len(c) > 1 && c[0] == '\'' && strings.IndexByte("=+-@\t\r'", c[1]) >= 0 {
				cells[i] = c[1:]
			}
		}
		number := func(i, bits int) int64 {
			n, err := strconv.ParseInt(cells[i], 10, bits)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		instant := func(i int) int64 {
			at, err := time.Parse("2006-01-02T15:04:05.000000Z", cells[i])
			if err != nil {
				t.Fatal(err)
			}
			return at.UnixMicro()
		}
		maybe := func(i int) *string {
			if cells[i] == "" {
				return nil
			}
			return &cells[i]
		}
		r := row{
			ID: cells[0], Source: cells[1], Type: cells[2], Subject: cells[4], Actor: maybe(5), Target: maybe(6), Time: instant(7), RecordedTime: instant(8),
			Partition: int32(number(9, 32)), Sequence: number(10, 64), Data: maybe(11), DataBase64: maybe(12),
		}
		if r.Data == nil && r.DataBase64 == nil { // of an event without data both are empty
			r.DataBase64 = ptr("")
		}
		if cells[3] != "" {
			r.SchemaVersion = ptr(int32(number(3, 32)))
		}
		rows = append(rows, r)
	}
}

func fromParquet(t fataler, data []byte) []row {
	rows, err := parquet.Read[row](bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// normal brings the JSON of rows into one form.
func normal(t fataler, rows []row) []row {
	for i := range rows {
		if rows[i].Data == nil {
			continue
		}
		d := json.NewDecoder(strings.NewReader(*rows[i].Data))
		d.UseNumber()
		var v any
		if err := d.Decode(&v); err != nil {
			t.Fatal(err, *rows[i].Data)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		rows[i].Data = ptr(string(b))
	}
	return rows
}

func ptr[T any](v T) *T { return &v }

// hostile is text that formats and spreadsheets stumble over.
func hostile() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.String(),
		rapid.StringOf(rapid.SampledFrom([]rune("=+-@;,\"'\t\r\n|\\{}a1 \u2028"))),
		rapid.SampledFrom([]string{`=HYPERLINK("http://x","y")`, "@SUM(1)", "';=1", "\\u003b", `a","b`, "a\r\n=1", ";=1+1", "\t=1", "", "\x00"}),
	)
}

func payload(typ string) *rapid.Generator[[]byte] {
	marshal := func(v any) []byte {
		b, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		return b
	}
	texts := rapid.Custom(func(t *rapid.T) []byte {
		return marshal(events.Appeal{User: id(t, "user"), Text: hostile().Draw(t, "text")})
	})
	activity := rapid.Custom(func(t *rapid.T) []byte {
		return events.Activity{Target: id(t, "target"), JoinedAt: time.UnixMicro(1_700_000_000_000_001), Trusted: rapid.Bool().Draw(t, "trusted")}.AppendJSON(nil)
	})
	if strings.HasPrefix(typ, "activity.") {
		texts = activity
	}
	return rapid.OneOf(activity, texts, rapid.Custom(func(t *rapid.T) []byte {
		return marshal(map[string]any{hostile().Draw(t, "key"): hostile().Draw(t, "value"), "n": rapid.Float64Range(-1e9, 1e9).Draw(t, "n")})
	}), rapid.SampledFrom([][]byte{
		[]byte("{}"), []byte("{ }"), []byte("{\r\n\t\"a\": [1,\n2]\r\n}"), []byte("\t{\"a\":1}"), []byte("-1"), []byte(`"=1"`), []byte("null"), []byte("[]"),
		nil, []byte("no JSON"), []byte("\"\xff\""), {0xf8, 0x00}, {0xfb, 0xff, 0xfe}, []byte(`{"a":`),
	}))
}

func id(t *rapid.T, label string) uuid.UUID {
	return uuid.UUID(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, label))
}

func event(partition int) *rapid.Generator[events.Recorded] {
	types := []string{"activity.nothing", "activity.v2", "fraud.flag_raised.vx", "later.thing.v12", "=1;+2.v3", "'=1.v1", "'quoted'", "bad\xff\xfeutf", `"a",b`}
	for _, k := range events.Catalogue() {
		types = append(types, k.Type)
	}
	at := rapid.Int64Range(-62_135_596_800_000_000, 253_402_300_799_999_999) // the years 1 to 9999
	return rapid.Custom(func(t *rapid.T) events.Recorded {
		typ := rapid.SampledFrom(types).Draw(t, "type")
		return events.Recorded{
			Event: events.Event{
				ID: id(t, "id"), Type: typ, Stream: id(t, "stream"), OccurredAt: time.UnixMicro(at.Draw(t, "occurred")).UTC(), Data: payload(typ).Draw(t, "data"),
			},
			Position:   events.Position{Partition: partition, Sequence: rapid.Uint64Range(1, 1<<63-1).Draw(t, "sequence")},
			RecordedAt: time.UnixMicro(at.Draw(t, "recorded")).UTC(),
		}
	})
}

func TestAllFormatsSayTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := rapid.SampledFrom([]string{events.UserLog, events.ActivityLog, events.FraudLog}).Draw(t, "log")
		list := rapid.SliceOfN(event(rapid.IntRange(0, 15).Draw(t, "partition")), 0, 40).Draw(t, "events")
		lines := written(t, as(export.NDJSON, log), list)
		want := normal(t, fromLines(t, lines))
		if len(want) != len(list) {
			t.Fatalf("%d lines for %d events", len(want), len(list))
		}
		small := func(to io.Writer) export.Writer {
			return export.NewSmallGroups(to, log, rapid.IntRange(1, 50).Draw(t, "rows"), rapid.IntRange(1, 4000).Draw(t, "bytes"))
		}
		for name, got := range map[string][]row{
			"csv":                   fromCSV(t, written(t, as(export.CSV, log), list)),
			"parquet":               fromParquet(t, written(t, as(export.Parquet, log), list)),
			"parquet, small groups": fromParquet(t, written(t, small, list)),
		} {
			got = normal(t, got)
			if len(got) != len(want) {
				t.Fatalf("%s: %d rows, want %d", name, len(got), len(want))
			}
			for i := range got {
				if !reflect.DeepEqual(got[i], want[i]) {
					t.Fatalf("%s: event %d is\n%s, want\n%s", name, i, show(got[i]), show(want[i]))
				}
			}
		}
	})
}

func show(r row) string {
	b, _ := json.Marshal(r)
	return string(b)
}

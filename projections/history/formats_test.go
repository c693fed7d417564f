package history_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/projections/export"
	"github.com/meet5/backend/projections/history"
)

func TestTheAcceptHeaderPicksTheFormat(t *testing.T) {
	const ndjson, commas, parquet, none = "application/x-ndjson", "text/csv", "application/vnd.apache.parquet", "none"
	for header, want := range map[string]string{
		"":                                  ndjson,
		" ":                                 ndjson,
		"*/*":                               ndjson,
		"application/*":                     ndjson,
		"text/*":                            commas,
		"text/csv":                          commas,
		"TEXT/CSV; charset=utf-8":           commas,
		"text/csv;header=absent":            commas,
		parquet:                             parquet,
		"text/csv, " + parquet:              commas, // both as much: the first of ours
		"text/csv;q=0.5, " + parquet:        parquet,
		"text/csv;q=0.5, */*;q=0.1":         commas,
		"*/*, " + parquet:                   parquet, // what is named is meant
		"text/html, */*;q=0.8":              ndjson,
		"application/*, " + ndjson + ";q=0": parquet, // the closest range counts
		"*/*;q=0.1, application/*;q=0":      commas,
		"text/csv;q=0":                      none,
		"text/csv;q=0, */*":                 ndjson,
		"*/*;q=0":                           none,
		"text/html, image/png":              none,
		"text/csv;q=2":                      none,
		"text/csv;q=NaN":                    none,
		"text/csv;q=-1":                     none,
		"text/csv;q=much":                   none,
		"*/csv":                             none,
		"csv":                               none,
		";;;":                               none,
		"text/csv;q=0.000":                  none,
		"text/csv;q=0.001":                  commas,
	} {
		got := none
		if f, ok := history.Negotiate(header); ok {
			got = f.MediaType()
		}
		if got != want {
			t.Errorf("Accept: %s leads to %s, want %s", header, got, want)
		}
	}
	if f, ok := history.Negotiate("text/html", "text/csv"); !ok || f != export.CSV {
		t.Errorf("two headers lead to %s, %t", f, ok)
	}
}

func TestEveryFormatIsServedWithAllFilters(t *testing.T) {
	ask := door(t, 600)
	for _, f := range export.Formats() {
		for _, c := range []struct {
			query string
			want  int
		}{
			{"", 600},
			{"?limit=500", 500},
			{"?type=activity.profile_visited.v1&since=2026-01-02T03:04:15Z&until=2026-01-02T03:04:25Z", 10},
			{"?actor=00000000-0000-0000-0000-000000000009", 0},
			{"?target=09000000-0000-0000-0000-000000000000&limit=7", 7},
			{"?partition=1&after=5&limit=3", 3},
		} {
			w := ask("/v1/logs/activity/events"+c.query, f.MediaType())
			if got := count(t, f, w.Body.Bytes()); w.Code != http.StatusOK || got != c.want {
				t.Errorf("%s %s: %d with %d events, want %d", f, c.query, w.Code, got, c.want)
			}
			if h := w.Header(); h.Get("Content-Type") != f.ContentType() || h.Get("Vary") != "Accept" ||
				h.Get("Content-Disposition") != fmt.Sprintf(`attachment; filename="meet5-activity.%s"`, f) {
				t.Errorf("%s %s: %v", f, c.query, h)
			}
		}
		if w := ask("/v1/logs/activity/events?limit=0", f.MediaType()); w.Code != http.StatusUnprocessableEntity || w.Header().Get("Content-Disposition") != "" {
			t.Errorf("%s of a bad limit: %d %v", f, w.Code, w.Header())
		}
	}
}

// count is how many events there are in an answer.
func count(t *testing.T, f export.Format, body []byte) int {
	t.Helper()
	switch f {
	case export.CSV:
		rows, err := csv.NewReader(bytes.NewReader(body)).ReadAll()
		if err != nil || len(rows) == 0 {
			t.Fatalf("%d rows of CSV, %v", len(rows), err)
		}
		return len(rows) - 1
	case export.Parquet:
		file, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			t.Fatal(err)
		}
		return int(file.NumRows())
	}
	return bytes.Count(body, []byte("\n"))
}

// broken is a log whose partitions cannot be read on after so many events.
type broken struct {
	log.Reader
	after uint64
}

func (b broken) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		for c, err := range b.Reader.Read(ctx, partition, after) {
			if c.Last() > b.after {
				yield(events.Commit{}, errors.New("the disk is gone"))
				return
			}
			if !yield(c, err) {
				return
			}
		}
	}
}

// Half an export must not look like a whole one, whatever its format.
func TestAnExportThatBreaksOffIsCut(t *testing.T) {
	r := filled(t, 1500)
	for _, f := range export.Formats() {
		for after, begun := range map[uint64]bool{0: false, 40: false, 600: true} {
			e, raw := serve(t, broken{r, after})
			server := httptest.NewServer(e)
			res, err := server.Client().Do(request(t, server.URL+"/v1/logs/activity/events", raw, f.MediaType()))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			res.Body.Close()
			server.Close()
			if !begun && (res.StatusCode != http.StatusServiceUnavailable || err != nil || res.Header.Get("Content-Disposition") != "") {
				t.Errorf("%s, broken after %d events of a partition: %d, %v, want a problem", f, after, res.StatusCode, err)
			}
			if begun && (res.StatusCode != http.StatusOK || !errors.Is(err, io.ErrUnexpectedEOF)) {
				t.Errorf("%s, broken after %d events of a partition: %d with %d bytes, %v, want an end that no client takes for one", f, after, res.StatusCode, len(body), err)
			}
		}
	}
}

// held is a log that nobody reads on before it is let go.
type held struct {
	log.Reader
	begun, free chan struct{}
}

func (h held) Read(ctx context.Context, partition int, after uint64) iter.Seq2[events.Commit, error] {
	return func(yield func(events.Commit, error) bool) {
		if partition == 0 {
			h.begun <- struct{}{}
			<-h.free
		}
		for c, err := range h.Reader.Read(ctx, partition, after) {
			if !yield(c, err) {
				return
			}
		}
	}
}

func TestSoManyExportsInParquetAreWrittenAtOnce(t *testing.T) {
	h := held{filled(t, 10), make(chan struct{}), make(chan struct{})}
	e, raw := serve(t, h)
	ask := func(accept string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		e.ServeHTTP(w, request(t, "/v1/logs/activity/events", raw, accept))
		return w
	}
	const media = "application/vnd.apache.parquet"
	answers := make(chan *httptest.ResponseRecorder)
	for range history.MaxParquet {
		go func() { answers <- ask(media) }()
		<-h.begun
	}
	if w := ask(media); w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "another format") {
		t.Errorf("one more: %d %v %s", w.Code, w.Header(), w.Body)
	}
	go func() { answers <- ask("text/csv") }()
	<-h.begun // another format is not held up
	close(h.free)
	for range history.MaxParquet + 1 {
		if w := <-answers; w.Code != http.StatusOK {
			t.Errorf("one of those that were first: %d", w.Code)
		}
	}
	go func() { answers <- ask(media) }()
	<-h.begun
	if w := <-answers; w.Code != http.StatusOK {
		t.Errorf("after they have ended: %d", w.Code)
	}
}

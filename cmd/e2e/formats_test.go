package e2e_test

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/meet5/backend/cmd/backend"
)

// exported is what of an event is compared here.
type exported struct {
	ID   string  `parquet:"id"`
	Type string  `parquet:"type"`
	Data *string `parquet:"data,optional"`
}

// A log says the same in each format, and in none of them who somebody is or was.
func TestAnAnalystTakesALogInAnyFormat(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		h := open(t, where)
		anna, bert, analyst := h.register("annabel"), h.register("bert"), h.with("analyst", "analyst")
		anna.act("visit", bert.id).is(http.StatusCreated)
		bert.act("like", anna.id).is(http.StatusCreated)
		anna.send(http.MethodDelete, "/v1/me", "", nil, "If-Match", "*").is(http.StatusNoContent)
		for log, least := range map[string]int{"user": 5, "activity": 2, "fraud": 1} {
			read := func(media string) []byte {
				return analyst.send(http.MethodGet, "/v1/logs/"+log+"/events", "", nil, "Accept", media).is(http.StatusOK).body
			}
			want := lines(t, read(ndjson))
			table, err := csv.NewReader(bytes.NewReader(read(commas))).ReadAll()
			if err != nil || len(table) == 0 {
				t.Fatalf("%s in CSV: %d lines, %v", log, len(table), err)
			}
			var fromCSV []exported
			for _, cells := range table[1:] {
				fromCSV = append(fromCSV, exported{cells[0], cells[2], &cells[slices.Index(table[0], "data")]})
			}
			file := read(parquetFile)
			fromParquet, err := parquet.Read[exported](bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatalf("%s in Parquet: %v", log, err)
			}
			if len(want) < least || len(fromCSV) < len(want) || len(fromParquet) < len(want) {
				t.Fatalf("%s has %d lines, %d rows of CSV and %d of Parquet", log, len(want), len(fromCSV), len(fromParquet))
			}
			for i, w := range want { // the log may have grown meanwhile
				for format, g := range map[string]exported{"CSV": fromCSV[i], "Parquet": fromParquet[i]} {
					if g.ID != w.ID || g.Type != w.Type || strings.ReplaceAll(*g.Data, `\u003b`, ";") != strings.ReplaceAll(*w.Data, `\u003b`, ";") {
						t.Errorf("%s: event %d is %s %s %s in %s, want %s %s %s", log, i, g.ID, g.Type, *g.Data, format, w.ID, w.Type, *w.Data)
					}
					if strings.Contains(strings.ToLower(*g.Data), "annabel") {
						t.Errorf("%s in %s says a name: %s", log, format, *g.Data)
					}
				}
			}
		}
		refused := analyst.send(http.MethodGet, "/v1/logs/activity/events", "", nil, "Accept", "text/html").is(http.StatusNotAcceptable)
		if !strings.Contains(string(refused.body), parquetFile) {
			t.Errorf("what there is is not said: %s", refused.body)
		}
	})
}

func lines(t *testing.T, body []byte) (list []exported) {
	t.Helper()
	for line := range bytes.Lines(body) {
		var e struct {
			ID, Type string
			Data     json.RawMessage
		}
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatal(err)
		}
		data := string(e.Data)
		list = append(list, exported{e.ID, e.Type, &data})
	}
	return list
}

package e2e_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
)

// Bodies that are made to use up memory or time are refused by what they are, not by
// what becomes of the process.
func TestBodiesThatAreMadeToHarmAreRefused(t *testing.T) {
	h := open(t, backend.Where{Data: t.TempDir()})
	anna := h.register("anna")
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	for range 64 { // 64 MiB in 64 KiB
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	line := `{"type":"visit","target":"` + uuid.NewString() + `"}` + "\n"
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for name, attack := range map[string]struct {
		path, contentType, body string
		header                  []string
		want                    []int
	}{
		"a gzip bomb":                 {"/v1/activities", "application/json", bomb.String()[:min(bomb.Len(), 4096)], []string{"Content-Encoding", "gzip"}, []int{400, 415}},
		"a whole gzip bomb":           {"/v1/activities", "application/json", bomb.String(), []string{"Content-Encoding", "gzip"}, []int{400, 413, 415}},
		"a gzip bomb as a batch":      {"/v1/activities/batch", "application/x-ndjson", bomb.String(), []string{"Content-Encoding", "gzip"}, []int{200, 400, 413, 415, 422}},
		"arrays in arrays":            {"/v1/activities", "application/json", strings.Repeat("[", 4000), nil, []int{400, 422}},
		"objects in objects":          {"/v1/sessions", "application/json", strings.Repeat(`{"login":`, 7000) + "1" + strings.Repeat("}", 7000), nil, []int{400, 413, 422}},
		"a field that is deep":        {"/v1/sessions", "application/json", `{"login":"a","password":` + strings.Repeat("[", 10000) + strings.Repeat("]", 10000) + `}`, nil, []int{400, 422}},
		"many fields":                 {"/v1/sessions", "application/json", `{` + strings.Repeat(`"x":1,`, 10000) + `"login":"a"}`, nil, []int{400, 422}},
		"a number of many digits":     {"/v1/activities", "application/json", `{"type":"visit","target":` + strings.Repeat("9", 3000) + `}`, nil, []int{400, 422}},
		"a million empty lines":       {"/v1/activities/batch", "application/x-ndjson", strings.Repeat("\n", 1_000_000), nil, []int{200, 400, 413, 422}},
		"a million lines":             {"/v1/activities/batch", "application/x-ndjson", strings.Repeat("{}\n", 1_000_000), nil, []int{413, 422}},
		"more than eight mebibytes":   {"/v1/activities/batch", "application/x-ndjson", strings.Repeat(line, 8<<20/len(line)+100), nil, []int{413}},
		"a line that does not end":    {"/v1/activities/batch", "application/x-ndjson", strings.Repeat("x", 7<<20), nil, []int{200, 413, 422}},
		"a megabyte where 4 KiB will": {"/v1/activities", "application/json", `"` + strings.Repeat("x", 1<<20) + `"`, nil, []int{413}},
	} {
		t.Run(name, func(t *testing.T) {
			a := anna.send(http.MethodPost, attack.path, attack.contentType, io.NopCloser(strings.NewReader(attack.body)), attack.header...)
			ok := false
			for _, want := range attack.want {
				ok = ok || a.status == want
			}
			if !ok || bytes.Contains(a.body, []byte(`"status":201`)) || len(a.body) > 64<<10 {
				t.Errorf("answered with %d and %d bytes: %.300s", a.status, len(a.body), a.body)
			}
		})
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.Sys) - int64(before.Sys); grown > 192<<20 { //nolint:gosec // far below 2⁶³
		t.Errorf("the process took %d MiB more", grown>>20)
	}
	anna.get("/v1/me").is(http.StatusOK)
	anna.act("visit", h.as("admin").id).is(http.StatusCreated)
}

package gateway

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

func TestTheRoutingTableAndTheDocumentListTheSameRoutes(t *testing.T) {
	var served, described []string
	for _, rt := range (&Gateway{}).table(pages{}) {
		served = append(served, rt.method+" "+rt.path)
	}
	d, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	operations, err := d.operations()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range operations {
		described = append(described, op.Method+" "+op.Path)
	}
	slices.Sort(served)
	slices.Sort(described)
	for _, s := range served {
		if !slices.Contains(described, s) {
			t.Errorf("%s is served but not described", s)
		}
	}
	for _, s := range described {
		if !slices.Contains(served, s) {
			t.Errorf("%s is described but not served", s)
		}
	}
	if !slices.Equal(slices.Compact(slices.Clone(served)), served) || len(served) != len(described) {
		t.Errorf("%d routes are served, %d described", len(served), len(described))
	}
}

func TestTheRoutingTableIsSortedByPathAndMethod(t *testing.T) {
	var lines []string
	for _, rt := range (&Gateway{}).table(pages{}) {
		// A name comes after every word, as '{' does in ASCII.
		lines = append(lines, rt.path+" "+rt.method)
	}
	if !slices.IsSorted(lines) {
		t.Errorf("not sorted:\n%s", strings.Join(lines, "\n"))
	}
}

func TestTheDocumentIsValidOpenAPI31(t *testing.T) {
	d, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := openapi3.NewLoader().LoadFromData(d.json)
	if err != nil {
		t.Fatal(err)
	}
	if !loaded.IsOpenAPI31OrLater() {
		t.Errorf("it is OpenAPI %s", loaded.OpenAPI)
	}
	if err := loaded.Validate(t.Context()); err != nil {
		t.Error(err)
	}
}

// What the table demands of a caller, the document says.
func TestTheDocumentSaysWhatEachRouteDemands(t *testing.T) {
	d, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	operations, err := d.operations()
	if err != nil {
		t.Fatal(err)
	}
	names := map[class]string{auth: "auth", batch: "batch", moderation: "moderation", read: "read", write: "write"}
	for _, rt := range (&Gateway{}).table(pages{}) {
		i := slices.IndexFunc(operations, func(op operation) bool { return op.Method == rt.method && op.Path == rt.path })
		if i < 0 {
			continue // another test tells
		}
		op := operations[i]
		where := rt.method + " " + rt.path
		answers := func(status string) bool { return op.Responses.get(status) != nil }
		if public := op.Security != nil; public != (rt.who == anyone) {
			t.Errorf("%s: public in the document: %t", where, public)
		}
		if needsToken := rt.who != anyone; needsToken && !answers("401") {
			t.Errorf("%s: no 401", where)
		}
		if needsRole := rt.who != anyone && rt.who != member; needsRole != answers("403") {
			t.Errorf("%s: 403 is described: %t", where, answers("403"))
		}
		if limited := rt.class != free; limited != answers("429") {
			t.Errorf("%s: 429 is described: %t", where, answers("429"))
		}
		if strings.HasPrefix(rt.path, "/v1/") && !strings.Contains(op.Description, "Class "+names[rt.class]+".") {
			t.Errorf("%s: the description does not say class %s", where, names[rt.class])
		}
		takesBody := op.RequestBody != nil
		if takesBody && !answers("413") {
			t.Errorf("%s: no 413", where)
		}
		for _, f := range op.Responses {
			var r response
			if err := json.Unmarshal(f.value, &r); err != nil {
				t.Fatal(err)
			}
			if f.name >= "400" && r.Ref == "" && rt.path != "/readyz" && rt.path != "/metrics" {
				t.Errorf("%s: %s is not a problem", where, f.name)
			}
		}
		for name := range strings.SplitSeq(rt.path, "/") {
			if name = strings.Trim(name, "{}"); strings.Contains(rt.path, "{"+name+"}") && !slices.ContainsFunc(op.Parameters, func(p parameter) bool {
				if p.Ref != "" {
					p = d.Components.Parameters[refName(p.Ref)]
				}
				return p.In == "path" && p.Name == name
			}) {
				t.Errorf("%s: parameter %s is not described", where, name)
			}
		}
	}
}

func TestThePageShowsEveryRouteAndSchemaAndRunsNoScript(t *testing.T) {
	d, err := readDocument()
	if err != nil {
		t.Fatal(err)
	}
	html, err := renderDocs(d)
	if err != nil {
		t.Fatal(err)
	}
	page := string(html)
	operations, err := d.operations()
	if err != nil {
		t.Fatal(err)
	}
	for _, op := range operations {
		if strings.Count(page, `<section class="operation" id="`+op.OperationID+`">`) != 1 {
			t.Errorf("%s %s is not shown once", op.Method, op.Path)
		}
	}
	for _, s := range d.Components.Schemas {
		if !strings.Contains(page, `id="schema-`+s.name+`"`) {
			t.Errorf("schema %s is not shown", s.name)
		}
	}
	for _, foreign := range []string{"<script", "<link", "src=", "@import", "http://", "https://", "ZgotmplZ"} {
		if strings.Contains(page, foreign) {
			t.Errorf("the page has %q", foreign)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch, http.MethodDelete} {
		if !strings.Contains(page, `<span class="method">`+method+`</span>`) {
			t.Errorf("%s is not shown", method)
		}
	}
}

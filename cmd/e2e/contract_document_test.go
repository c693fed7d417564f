package e2e_test

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/parquet-go/parquet-go"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

const (
	ndjson      = "application/x-ndjson"
	eventStream = "text/event-stream"
	commas      = "text/csv"
	parquetFile = "application/vnd.apache.parquet"
)

// contract holds every answer that goes through it against the document that the
// gateway serves. It is the http.Client of the generated client.
type contract struct {
	t        *testing.T
	doc      *openapi3.T
	raw      any // the document as JSON
	compiler *jsonschema.Compiler
	schemas  map[string]*jsonschema.Schema // by where they stand in the document
	answered map[string]map[int]int        // how often, by operation and status
	accepted map[string]sent               // by operation, the latest request that was answered with 2xx
	last     []byte                        // the latest answer's body
	opened   func()                        // is called when a stream of events has begun
}

// sent is a request as it was sent, and to what.
type sent struct {
	operation
	path   string
	query  string
	header http.Header
	body   []byte
}

// operation is one of the document's.
type operation struct {
	*openapi3.Operation
	method string
	path   string // the template
	item   *openapi3.PathItem
	params map[string]string // what stands for the names in the template
}

// readContract reads the document that the house serves.
func readContract(h *house) *contract {
	h.t.Helper()
	data := (&client{house: h}).get("/openapi.json").is(http.StatusOK).body
	doc, err := openapi3.NewLoader().LoadFromData(data)
	if err != nil {
		h.t.Fatal(err)
	}
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		h.t.Fatal(err)
	}
	c := &contract{
		t: h.t, doc: doc, raw: raw, compiler: jsonschema.NewCompiler(), schemas: make(map[string]*jsonschema.Schema),
		answered: make(map[string]map[int]int), accepted: make(map[string]sent),
	}
	c.compiler.DefaultDraft(jsonschema.Draft2020)
	c.compiler.AssertFormat()
	if err := c.compiler.AddResource(documentURL, raw); err != nil {
		h.t.Fatal(err)
	}
	return c
}

// documentURL is what the document is called where its schemas refer to each other.
const documentURL = "file:///openapi.json"

// operations are the document's, by path and method.
func (c *contract) operations() (all []operation) {
	for _, path := range slices.Sorted(maps.Keys(c.doc.Paths.Map())) {
		item := c.doc.Paths.Value(path)
		for _, method := range slices.Sorted(maps.Keys(item.Operations())) {
			all = append(all, operation{Operation: item.Operations()[method], method: method, path: path, item: item})
		}
	}
	return all
}

// find is the operation that a request asks for. A path without names wins.
func (c *contract) find(method, path string) (operation, bool) {
	var found operation
	for _, op := range c.operations() {
		if params, ok := match(op.path, path); ok && op.method == method && (found.Operation == nil || len(params) < len(found.params)) {
			op.params = params
			found = op
		}
	}
	return found, found.Operation != nil
}

// match says what stands in a path for the names in a template.
func match(template, path string) (map[string]string, bool) {
	want, got := strings.Split(template, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	params := make(map[string]string)
	for i, w := range want {
		if strings.HasPrefix(w, "{") {
			params[strings.Trim(w, "{}")] = got[i]
		} else if w != got[i] {
			return nil, false
		}
	}
	return params, true
}

// Do sends a request and checks the answer, and those that say that the house is
// busy. It implements client.HttpRequestDoer.
func (c *contract) Do(r *http.Request) (*http.Response, error) { return ask(r, c.once) }

func (c *contract) once(r *http.Request) (*http.Response, error) {
	s := sent{path: r.URL.EscapedPath(), query: r.URL.RawQuery, header: r.Header.Clone()}
	if r.Body != nil {
		var err error
		if s.body, err = io.ReadAll(r.Body); err != nil {
			return nil, err
		}
		r.Body = http.NoBody // or it would be sent in chunks
		if len(s.body) > 0 {
			r.Body = io.NopCloser(bytes.NewReader(s.body))
		}
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	body, err := c.readAnswer(res)
	if err != nil {
		return nil, fmt.Errorf("%s %s: read the answer: %w", r.Method, r.URL, err)
	}
	res.Body, c.last = io.NopCloser(bytes.NewReader(body)), body
	op, ok := c.find(r.Method, s.path)
	if !ok {
		c.t.Errorf("%s %s is not in the document", r.Method, s.path)
		return res, nil
	}
	s.operation = op
	if err := c.check(op, res.StatusCode, res.Header, body); err != nil {
		c.t.Errorf("%s %s?%s with %.300q was answered %d, which the document does not describe: %v\n%.1000s", r.Method, s.path, s.query, s.body, res.StatusCode, err, body)
	}
	if c.answered[op.OperationID] == nil {
		c.answered[op.OperationID] = make(map[int]int)
	}
	c.answered[op.OperationID][res.StatusCode]++
	if res.StatusCode < 300 {
		c.accepted[op.OperationID] = s
	}
	return res, nil
}

// readAnswer reads a body; of a stream that does not end, up to its first event.
func (c *contract) readAnswer(res *http.Response) ([]byte, error) {
	defer res.Body.Close()
	if media, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); media != eventStream {
		return io.ReadAll(res.Body)
	}
	if c.opened != nil {
		c.opened()
	}
	var read []byte
	for lines := bufio.NewReader(res.Body); ; {
		line, err := lines.ReadBytes('\n')
		if read = append(read, line...); err != nil {
			return read, err
		}
		if len(line) == 1 && bytes.Contains(read, []byte("\ndata:")) {
			return read, nil
		}
	}
}

// check says in what an answer is not as the document has it.
func (c *contract) check(op operation, status int, header http.Header, body []byte) error {
	ref := op.Responses.Status(status)
	if ref == nil {
		return errors.New("there is no such status")
	}
	at := "/paths/" + escape(op.path) + "/" + strings.ToLower(op.method) + "/responses/" + strconv.Itoa(status)
	if ref.Ref != "" {
		at = strings.TrimPrefix(ref.Ref, "#")
	}
	var faults []error
	for name, h := range ref.Value.Headers {
		where := at + "/headers/" + escape(name)
		if h.Ref != "" {
			where = strings.TrimPrefix(h.Ref, "#")
		}
		if err := c.checkHeader(where+"/schema", h.Value, header.Values(name)); err != nil {
			faults = append(faults, fmt.Errorf("header %s: %w", name, err))
		}
	}
	return errors.Join(append(faults, c.checkContent(at+"/content/", ref.Value.Content, header.Get("Content-Type"), body))...)
}

func (c *contract) checkHeader(at string, h *openapi3.Header, values []string) error {
	switch {
	case len(values) == 0 && h.Required:
		return errors.New("is missing")
	case len(values) == 0:
		return nil
	case len(values) > 1:
		return fmt.Errorf("is there %d times", len(values))
	}
	var value any = values[0]
	if h.Schema.Value.Type.Is("integer") {
		value = json.Number(values[0])
	}
	return c.validate(at, value)
}

func (c *contract) checkContent(at string, content openapi3.Content, contentType string, body []byte) error {
	if len(content) == 0 {
		if len(body) > 0 || contentType != "" {
			return errors.New("there should be no body")
		}
		return nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return fmt.Errorf("Content-Type %q: %w", contentType, err)
	}
	if content[media] == nil {
		return fmt.Errorf("there is no media type %s", media)
	}
	at += escape(media) + "/schema"
	switch {
	case media == ndjson:
		for line := range bytes.Lines(body) {
			if err := c.validateJSON(at, line); err != nil {
				return fmt.Errorf("line %s: %w", line, err)
			}
		}
		return nil
	case media == eventStream:
		_, data, _ := bytes.Cut(body, []byte("\ndata:"))
		data, _, _ = bytes.Cut(data, []byte("\n"))
		return c.validateJSON(at, data)
	case strings.HasSuffix(media, "json"):
		return c.validateJSON(at, body)
	case media == commas:
		if _, err := csv.NewReader(bytes.NewReader(body)).ReadAll(); err != nil {
			return err
		}
	case media == parquetFile:
		if _, err := parquet.OpenFile(bytes.NewReader(body), int64(len(body))); err != nil {
			return err
		}
	}
	if len(body) == 0 {
		return errors.New("the body is empty")
	}
	return c.validate(at, string(body))
}

func (c *contract) validateJSON(at string, data []byte) error {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		return err
	}
	return errors.Join(c.validate(at, value), c.undescribed(value, "", at))
}

// validate holds a value against the schema that stands at a place of the document.
func (c *contract) validate(at string, value any) error {
	s := c.schemas[at]
	if s == nil {
		var err error
		if s, err = c.compiler.Compile(documentURL + "#" + at); err != nil {
			return err
		}
		c.schemas[at] = s
	}
	return s.Validate(value)
}

// undescribed names the fields of a value that its schema does not speak of,
// although it speaks of others.
func (c *contract) undescribed(value any, field, at string) error {
	var faults []error
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			for _, s := range c.branches(at) {
				if _, ok := c.at(s + "/items"); ok {
					faults = append(faults, c.undescribed(item, field+"["+strconv.Itoa(i)+"]", s+"/items"))
				}
			}
		}
	case map[string]any:
		branches := c.branches(at)
		speaks := func(keyword string) func(string) bool {
			return func(s string) bool { _, ok := c.at(s + "/" + keyword); return ok }
		}
		if slices.ContainsFunc(branches, speaks("additionalProperties")) || !slices.ContainsFunc(branches, speaks("properties")) {
			return nil
		}
		for name, inner := range v {
			described := false
			for _, s := range branches {
				if where := s + "/properties/" + escape(name); speaks("properties/" + escape(name))(s) {
					described = true
					faults = append(faults, c.undescribed(inner, field+"."+name, where))
				}
			}
			if !described {
				faults = append(faults, fmt.Errorf("field %s is not described", strings.TrimPrefix(field+"."+name, ".")))
			}
		}
	}
	return errors.Join(faults...)
}

// branches are the places of all schemas that speak of the same value as that at
// a place.
func (c *contract) branches(at string) []string {
	s, _ := c.at(at)
	schema, _ := s.(map[string]any)
	all := []string{at}
	if ref, ok := schema["$ref"].(string); ok {
		all = append(all, c.branches(strings.TrimPrefix(ref, "#"))...)
	}
	for _, keyword := range []string{"allOf", "anyOf", "oneOf"} {
		list, _ := schema[keyword].([]any)
		for i := range list {
			all = append(all, c.branches(at+"/"+keyword+"/"+strconv.Itoa(i))...)
		}
	}
	return all
}

// at is what stands at a place of the document, a JSON pointer.
func (c *contract) at(pointer string) (any, bool) {
	here := c.raw
	for step := range strings.SplitSeq(pointer[1:], "/") {
		switch v := here.(type) {
		case map[string]any:
			next, ok := v[unescaped.Replace(step)]
			if !ok {
				return nil, false
			}
			here = next
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(v) {
				return nil, false
			}
			here = v[i]
		default:
			return nil, false
		}
	}
	return here, true
}

var (
	escaped   = strings.NewReplacer("~", "~0", "/", "~1")
	unescaped = strings.NewReplacer("~1", "/", "~0", "~")
)

// escape makes a step of a JSON pointer.
func escape(step string) string { return escaped.Replace(step) }

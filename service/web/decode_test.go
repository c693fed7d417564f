package web_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

type scope struct {
	User  uuid.UUID `json:"user"`
	Since time.Time `json:"since"`
}

// sample has a field of every kind that bodies of ours have.
type sample struct {
	scope
	Name     string                 `json:"name"`
	Age      int8                   `json:"age"`
	Weight   float32                `json:"weight"`
	Count    uint16                 `json:"count"`
	Good     bool                   `json:"good"`
	Note     *string                `json:"note"`
	Tags     []string               `json:"tags"`
	Pair     [2]int                 `json:"pair"`
	Inner    inner                  `json:"inner"`
	Next     *sample                `json:"next"`
	Extra    map[string]int         `json:"extra"`
	ByUser   map[uuid.UUID]int      `json:"by_user"`
	Anything any                    `json:"anything"`
	Raw      json.RawMessage        `json:"raw"`
	City     web.Optional[string]   `json:"city"`
	About    web.Optional[[]string] `json:"about"`
	Blob     []byte                 `json:"blob"`
	Number   json.Number            `json:"number"`
	Quoted   int                    `json:"quoted,string"`
	Hidden   string                 `json:"-"`
	Dash     string                 `json:"-,"` //nolint:staticcheck // a name that must be read as it is
	Untagged string
	private  string //nolint:unused // there to be left alone
}

type inner struct {
	States []string  `json:"states"`
	At     time.Time `json:"at"`
}

func TestDecodeStrictAcceptsWhatFits(t *testing.T) {
	const body = ` {
		"user": "0192f0c1-2345-7abc-8def-0123456789ab", "since": "2026-01-31T12:00:00.000Z",
		"name": "a\u00e9\n", "age": -128, "weight": 1.5e3, "count": 65535, "good": true, "note": null,
		"tags": ["x", "y"], "pair": [1, 2], "inner": {"states": null, "at": "2026-01-31T12:00:00+01:00"},
		"next": {"next": {"name": "deep"}}, "extra": {"": 1, "b": 2},
		"by_user": {"0192f0c1-2345-7abc-8def-0123456789ab": 3}, "anything": {"a": [null, 1, "x"]},
		"raw": {"a":1}, "city": null, "about": ["z"], "blob": "aGk=", "number": 1e400, "quoted": "12",
		"-": "dash", "Untagged": "u", "n\u0061me2": 1
	} `
	fitting := strings.Replace(body, `, "n\u0061me2": 1`, "", 1)
	var got, want sample
	if err := web.DecodeStrict([]byte(fitting), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(fitting), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if !got.City.Set || !got.City.Null || !got.About.Set || got.About.Null {
		t.Errorf("optional fields are %+v and %+v", got.City, got.About)
	}
	if err := web.DecodeStrict([]byte(body), &got); err == nil {
		t.Error("an unknown field with an escape in its name was accepted")
	}
	escaped := `{"n\u0061me": "a", "name": "b"}`
	assertFaults(t, web.DecodeStrict([]byte(escaped), &got), "name is given more than once")
}

func TestDecodeStrictNamesEveryBadField(t *testing.T) {
	for name, test := range map[string]struct {
		body   string
		faults []string
	}{
		"an unknown field":                     {`{"nme": 1}`, []string{"nme is not a known field; remove it"}},
		"a field in another case":              {`{"Name": "a"}`, []string{"Name is not a known field; remove it"}},
		"a field that is not for JSON":         {`{"Hidden": "a", "private": "b"}`, []string{"Hidden is not a known field; remove it", "private is not a known field; remove it"}},
		"a repeated field":                     {`{"name": "a", "name": "b"}`, []string{"name is given more than once"}},
		"a repeated field of any object":       {`{"anything": {"a": 1, "a": 2}}`, []string{"anything.a is given more than once"}},
		"a repeated field of a map":            {`{"extra": {"a": 1, "\u0061": 2}}`, []string{"extra.a is given more than once"}},
		"a number for a string":                {`{"name": 5}`, []string{"name must be a string"}},
		"null for a string":                    {`{"name": null}`, []string{"name must be a string"}},
		"null for a UUID":                      {`{"user": null}`, []string{"user must be a UUID"}},
		"a string for a number":                {`{"age": "5"}`, []string{"age must be a whole number"}},
		"a fraction for a whole number":        {`{"age": 5.0}`, []string{"age must be a whole number"}},
		"a whole number out of range":          {`{"age": 128}`, []string{"age is out of range"}},
		"a negative count":                     {`{"count": -1}`, []string{"count must be a whole number, 0 or more"}},
		"a count out of range":                 {`{"count": 65536}`, []string{"count is out of range"}},
		"a float out of range":                 {`{"weight": 1e39}`, []string{"weight is out of range"}},
		"a string for a bool":                  {`{"good": "true"}`, []string{"good must be true or false"}},
		"an object for a list":                 {`{"tags": {"a": 1}}`, []string{"tags must be an array"}},
		"a list for an object":                 {`{"inner": []}`, []string{"inner must be an object"}},
		"a bad element, by its index":          {`{"tags": ["a", 1, "b", null]}`, []string{"tags[1] must be a string", "tags[3] must be a string"}},
		"a bad field far inside, by its path":  {`{"next": {"next": {"inner": {"states": ["a", 1]}}}}`, []string{"next.next.inner.states[1] must be a string"}},
		"a bad value of a map":                 {`{"extra": {"a": "x"}}`, []string{"extra.a must be a whole number"}},
		"a bad key of a map":                   {`{"by_user": {"x": 1}}`, []string{"by_user must be an object"}},
		"a bad UUID":                           {`{"user": "x"}`, []string{"user must be a UUID"}},
		"a bad time":                           {`{"since": "yesterday"}`, []string{"since must be an RFC 3339 time, as in 2026-01-31T12:00:00.000Z"}},
		"several that only decoding can tell":  {`{"inner": {"at": ""}, "user": ""}`, []string{"inner.at must be an RFC 3339 time, as in 2026-01-31T12:00:00.000Z", "user must be a UUID"}},
		"bad base64":                           {`{"blob": "%"}`, []string{"blob must be a string"}},
		"a bad quoted number":                  {`{"quoted": 1}`, []string{"body is not valid"}},
		"a wrong type in an optional field":    {`{"city": 1, "about": [1]}`, []string{"city must be a string", "about[0] must be a string"}},
		"all of them at once, in their order":  {`{"x": 1, "name": 1, "age": "", "y": {"z": 1}}`, []string{"x is not a known field; remove it", "name must be a string", "age must be a whole number", "y is not a known field; remove it"}},
		"a whole body of the wrong type":       {`[]`, []string{"body must be an object"}},
		"null for a body":                      {`null`, []string{"body must be an object"}},
		"a very long name, shortened":          {`{"` + strings.Repeat("n", 10_000) + `": 1}`, []string{strings.Repeat("n", 64) + "… is not a known field; remove it"}},
		"a long name, cut between characters":  {`{"` + strings.Repeat("é", 40) + "x" + `": 1}`, []string{strings.Repeat("é", 32) + "… is not a known field; remove it"}},
		"a long name, cut before a character":  {`{"x` + strings.Repeat("é", 40) + `": 1}`, []string{"x" + strings.Repeat("é", 31) + "… is not a known field; remove it"}},
		"an empty name":                        {`{"": 1}`, []string{" is not a known field; remove it"}},
		"a name that holds what paths are of":  {`{"a.b[0]": 1}`, []string{"a.b[0] is not a known field; remove it"}},
		"a number with an exponent for an int": {`{"age": 1e1}`, []string{"age must be a whole number"}},
	} {
		t.Run(name, func(t *testing.T) {
			var v sample
			assertFaults(t, web.DecodeStrict([]byte(test.body), &v), test.faults...)
		})
	}
}

func TestDecodeStrictRefusesWhatIsNotOneJSONValue(t *testing.T) {
	for name, test := range map[string]struct{ body, detail string }{
		"an empty body":                    {"", "the body is empty; send a JSON value"},
		"only spaces":                      {" \n\t ", "the body is empty; send a JSON value"},
		"a truncated object":               {`{"name": "a"`, "the body ends in the middle of a JSON value"},
		"a truncated string":               {`{"name": "a`, "the body ends in the middle of a JSON value"},
		"a truncated literal":              {`{"good": tru`, "the body ends in the middle of a JSON value"},
		"a truncated number":               {`{"age": -`, "the body ends in the middle of a JSON value"},
		"a truncated escape":               {`{"name": "\u00`, "the body ends in the middle of a JSON value"},
		"trailing data":                    {`{} {}`, "the body, at byte 3, goes on after the JSON value"},
		"trailing rubbish":                 {`{}x`, "the body, at byte 2, goes on after the JSON value"},
		"a trailing comma":                 {`{"name": "a",}`, "the body, at byte 13, is not valid JSON: an object's field must begin with a quotation mark"},
		"a trailing comma in a list":       {`{"tags": ["a",]}`, "the body, at byte 14, is not valid JSON"},
		"single quotes":                    {`{'name': 1}`, "the body, at byte 1, is not valid JSON: an object's field must begin with a quotation mark"},
		"a comment":                        {`{} // x`, "the body, at byte 3, goes on after the JSON value"},
		"a missing colon":                  {`{"name" 1}`, "the body, at byte 8, is not valid JSON: expected ':'"},
		"a leading zero":                   {`{"age": 01}`, "the body, at byte 9, is not valid JSON: expected ','"},
		"a bare point":                     {`{"age": 1.}`, "the body, at byte 10, is not valid JSON: a number lacks a digit"},
		"NaN":                              {`{"age": NaN}`, "the body, at byte 8, is not valid JSON"},
		"a control character":              {"{\"name\": \"a\nb\"}", "the body, at byte 11, is not valid JSON: a string holds a control character"},
		"an unknown escape":                {`{"name": "\x"}`, "the body, at byte 12, is not valid JSON: a string holds an unknown escape"},
		"invalid UTF-8":                    {"{\"name\": \"\xff\"}", "the body is not valid UTF-8"},
		"a byte order mark":                {"\ufeff{}", "the body, at byte 0, is not valid JSON"},
		"nesting that is one level deeper": {strings.Repeat("[", 33) + strings.Repeat("]", 33), "the body, at byte 32, nests deeper than 32 levels"},
		"nesting without end":              {strings.Repeat(`{"anything":`, 50_000), "the body, at byte 384, nests deeper than 32 levels"},
		"malformed after bad fields":       {`{"x": 1, "name": 2, `, "the body ends in the middle of a JSON value"},
	} {
		t.Run(name, func(t *testing.T) {
			var v sample
			err := web.DecodeStrict([]byte(test.body), &v)
			p, ok := errors.AsType[*problem.Problem](err)
			if !ok || p.Status != 400 {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(test.detail, p.Detail); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestDecodeStrictAllowsTheDeepestNesting(t *testing.T) {
	var v any
	if err := web.DecodeStrict([]byte(strings.Repeat("[", 32)+strings.Repeat("]", 32)), &v); err != nil {
		t.Error(err)
	}
}

func TestDecodeStrictFindsARepeatAmongManyFields(t *testing.T) {
	var fields []reflect.StructField
	for i := range 150 {
		fields = append(fields, reflect.StructField{
			Name: fmt.Sprintf("F%d", i), Type: reflect.TypeFor[int](), Tag: reflect.StructTag(fmt.Sprintf(`json:"f%d"`, i)),
		})
	}
	v := reflect.New(reflect.StructOf(fields)).Interface()
	if err := web.DecodeStrict([]byte(`{"f0":1,"f64":2,"f128":3,"f149":4}`), v); err != nil {
		t.Error(err)
	}
	assertFaults(t, web.DecodeStrict([]byte(`{"f0":1,"f64":2,"f128":3,"f149":4,"f128":5}`), v), "f128 is given more than once")
}

func TestDecodeStrictNeedsAPointer(t *testing.T) {
	for _, v := range []any{nil, sample{}, (*sample)(nil)} {
		err := web.DecodeStrict([]byte(`{}`), v)
		if p := problem.Of(err); p == nil || p.Status != 500 {
			t.Errorf("%T: got %v", v, err)
		}
	}
}

func assertFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok || p.Status != 422 {
		t.Fatalf("got %v, want a 422", err)
	}
	var got []string
	for _, f := range p.Errors {
		got = append(got, f.Field+" "+f.Message)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// FuzzDecodeStrict holds the checker against encoding/json: what one takes for
// JSON the other does, and what is accepted decodes to the same.
func FuzzDecodeStrict(f *testing.F) {
	for _, seed := range []string{
		`{"name":"a","age":1,"tags":["x"],"next":{"user":"0192f0c1-2345-7abc-8def-0123456789ab"}}`,
		`{"since":"2026-01-31T12:00:00Z","weight":-1.5e-3,"good":false,"note":null,"pair":[1,2]}`,
		`[[[[{"a":[1,2,3,{}]}]]]]`, `{"a":1,"a":2}`, `"\ud800\u0000\"\\"`, `-0.0e+1`, `01`, ``, `{"":{"":null}}`,
		"{\"name\":\"\xff\"}", `{"extra":{"a":1},"by_user":{"x":1},"raw":[1 , 2],"city":null,"quoted":"7"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var free any
		err := web.DecodeStrict(data, &free)
		p := mustBeProblem(t, err)
		switch {
		case err == nil:
			var want any
			if json.Unmarshal(data, &want) != nil || !reflect.DeepEqual(free, want) {
				t.Fatalf("decoded %q as %v, encoding/json as %v", data, free, want)
			}
		case p.Status == 400 && json.Valid(data):
			if !strings.Contains(p.Detail, "UTF-8") && !strings.Contains(p.Detail, "deeper") {
				t.Fatalf("refused valid %q: %v", data, err)
			}
		case p.Status == 422 && !json.Valid(data):
			t.Fatalf("took malformed %q for JSON: %v", data, err)
		}

		var got, want sample
		err = web.DecodeStrict(data, &got)
		mustBeProblem(t, err)
		if err != nil {
			return
		}
		d := json.NewDecoder(strings.NewReader(string(data)))
		d.DisallowUnknownFields()
		if d.Decode(&want) != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("decoded %q as %+v, encoding/json as %+v", data, got, want)
		}
	})
}

func mustBeProblem(t *testing.T, err error) *problem.Problem {
	t.Helper()
	if err == nil {
		return nil
	}
	p := problem.Of(err)
	if p.Status != 400 && p.Status != 422 {
		t.Fatalf("a client's fault is shown as %d: %v", p.Status, err)
	}
	return p
}

const activityBody = `{"type":"visit","target":"0192f0c1-2345-7abc-8def-0123456789ab","id":"0192f0c1-2345-7abc-8def-0123456789ac","occurred_at":"2026-01-31T12:00:00.000Z"}`

type activity struct {
	Type       string     `json:"type"`
	Target     uuid.UUID  `json:"target"`
	ID         *uuid.UUID `json:"id"`
	OccurredAt *time.Time `json:"occurred_at"`
}

func BenchmarkDecodeStrict(b *testing.B) {
	data := []byte(activityBody)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		var v activity
		if err := web.DecodeStrict(data, &v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodingJSON is what DecodeStrict is measured against: the decoder
// that it is built on, which checks less.
func BenchmarkEncodingJSON(b *testing.B) {
	b.SetBytes(int64(len(activityBody)))
	b.ReportAllocs()
	for b.Loop() {
		var v activity
		d := json.NewDecoder(strings.NewReader(activityBody))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			b.Fatal(err)
		}
	}
}

package gateway

import (
	"encoding/json"
	"reflect"
	"testing"
)

// FuzzObject: what an upstream answers keeps its fields, their order and their
// meaning on the way through.
func FuzzObject(f *testing.F) {
	for _, s := range []string{
		`{"id":"a","user":{"id":"b"},"n":1e3,"list":[1,{"x":null}]}`, `{}`, `{"a":1,"a":2}`, `{"\u0061":"\ud800"}`,
		`[]`, `null`, `{"a"`, `{"a":1}}`, ` { "a" : [ ] } `, `{"":{"":""}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var o object
		if err := json.Unmarshal(data, &o); err != nil {
			return
		}
		for _, x := range o {
			if !json.Valid(x.value) {
				t.Fatalf("%q: field %q is %q", data, x.name, x.value)
			}
		}
		again, err := json.Marshal(o)
		if err != nil {
			t.Fatalf("%q cannot be written: %v", data, err)
		}
		var before, after any
		if err := json.Unmarshal(data, &before); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(again, &after); err != nil {
			t.Fatal(err)
		}
		if before == nil {
			before = map[string]any{}
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%q became %q", data, again)
		}
	})
}

package web

import (
	"encoding/json"
	"reflect"
)

// Optional is a field of a merge patch (RFC 7396), in which absent, null and a
// value mean three things: leave it, remove it, set it.
type Optional[T any] struct {
	Set   bool // the field was there, with a value or null
	Null  bool // it was null
	Value T    // meaningful if Set and not Null
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *Optional[T]) UnmarshalJSON(data []byte) error {
	o.Set = true
	if string(data) == "null" {
		o.Null = true
		return nil
	}
	return json.Unmarshal(data, &o.Value)
}

// optional lets DecodeStrict see what an Optional holds.
type optional interface{ valueType() reflect.Type }

func (Optional[T]) valueType() reflect.Type { return reflect.TypeFor[T]() }

package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"

	"github.com/meet5/backend/service/problem"
)

// MaxDepth is how deep arrays and objects of a body may nest. The contract's
// deepest has four levels.
const MaxDepth = 32

// DecodeStrict decodes data, which must be one JSON value, into v, a non-nil
// pointer. It decodes as encoding/json does, but what that would let pass or
// report only in part is refused:
//
//   - malformed or truncated JSON, invalid UTF-8, trailing data, an empty body,
//     nesting deeper than [MaxDepth]: a 400;
//   - unknown fields (names are compared exactly), repeated ones, values of
//     another type than the field's, null for a field that cannot be null: a
//     422 that names all of them.
//
// When it fails, v is in an unspecified state.
func DecodeStrict(data []byte, v any) error {
	target := reflect.ValueOf(v)
	if target.Kind() != reflect.Pointer || target.IsNil() {
		return fmt.Errorf("decode JSON into %T: not a pointer that can be written to", v)
	}
	if !utf8.Valid(data) {
		return problem.BadRequest("the body is not valid UTF-8")
	}
	ck := checker{data: data}
	ck.document(shapeOf(target.Type().Elem()))
	if ck.malformed != "" {
		return problem.BadRequest(ck.malformed)
	}
	if len(ck.faults) > 0 {
		return problem.Invalid(ck.faults...)
	}
	if err := json.Unmarshal(data, v); err != nil {
		return unmarshalProblem(data, target.Type().Elem(), err)
	}
	return nil
}

// unmarshalProblem names the fields whose own UnmarshalJSON or UnmarshalText
// said no: encoding/json does not tell which they were.
func unmarshalProblem(data []byte, t reflect.Type, err error) error {
	ck := checker{data: data, try: true}
	ck.document(shapeOf(t))
	if len(ck.faults) > 0 {
		return problem.Invalid(ck.faults...)
	}
	name := "body"
	if typeErr, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && typeErr.Field != "" {
		name = typeErr.Field
	}
	return fmt.Errorf("%w: %w", problem.Invalid(problem.Field(name, "is not valid")), err)
}

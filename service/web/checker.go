package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"unicode/utf8"

	"github.com/meet5/backend/service/problem"
)

// maxNameShown bounds, in bytes, how much of a client's own field name an error
// repeats.
const maxNameShown = 64

// checker walks a JSON text beside the shape that it should have, and notes
// every place where they differ. It accepts exactly the texts that json.Valid
// accepts, up to MaxDepth.
type checker struct {
	data      []byte
	pos       int
	malformed string // why this is not JSON; the walk stops there
	faults    []problem.FieldError
	try       bool // decode what decodes itself, to find what fails
}

// place is where in the text the walk is: a list from the innermost name or
// index outwards, on the stack, made into a path only for a fault.
type place struct {
	outer *place
	name  []byte // nil: index
	index int
}

func (ck *checker) document(s *shape) {
	ck.space()
	if ck.pos == len(ck.data) {
		ck.malformed = "the body is empty; send a JSON value"
		return
	}
	if !ck.value(s, nil, 1) {
		return
	}
	ck.space()
	if ck.pos < len(ck.data) {
		ck.fail("goes on after the JSON value")
	}
}

// value walks one value. It returns false if the text is malformed.
func (ck *checker) value(s *shape, at *place, depth int) bool {
	if ck.pos == len(ck.data) {
		return ck.truncated()
	}
	for s.kind == pointer && ck.data[ck.pos] != 'n' {
		s = s.elem
	}
	start := ck.pos
	var ok, fits bool
	switch c := ck.data[ck.pos]; {
	case c == '"':
		fits = s.kind == text || s.kind == anything
		_, _, ok = ck.text()
	case c == '{':
		fits = s.kind == object || s.kind == dictionary || s.kind == anything
		ok = ck.object(s, at, depth)
	case c == '[':
		fits = s.kind == array || s.kind == anything
		ok = ck.array(s, at, depth)
	case c == 't':
		fits = s.kind == boolean || s.kind == anything
		ok = ck.literal("true")
	case c == 'f':
		fits = s.kind == boolean || s.kind == anything
		ok = ck.literal("false")
	case c == 'n':
		fits = s.nullable
		ok = ck.literal("null")
	case c == '-' || '0' <= c && c <= '9':
		if ok = ck.number(); ok {
			if s.kind == anything {
				fits = true
				break
			}
			return ck.fitNumber(s, at, string(ck.data[start:ck.pos]))
		}
	default:
		return ck.fail("is not valid JSON")
	}
	if !ok {
		return false
	}
	if !fits {
		ck.fault(at, s.must())
	} else if ck.try && s.own && !decodes(s.goType, ck.data[start:ck.pos]) {
		ck.fault(at, s.must())
	}
	return true
}

func decodes(t reflect.Type, data []byte) bool {
	return json.Unmarshal(data, reflect.New(t).Interface()) == nil
}

// free is the shape of what is walked only for its syntax.
var free = &shape{kind: anything, nullable: true}

func (ck *checker) object(s *shape, at *place, depth int) bool {
	if depth > MaxDepth {
		return ck.tooDeep()
	}
	var small [1]uint64 // one bit per field: enough for nearly every struct
	seen := small[:]
	var names map[string]struct{}
	switch {
	case s.kind != object:
		names = make(map[string]struct{})
	case len(s.fields) > 64:
		seen = make([]uint64, (len(s.fields)+63)/64)
	}
	ck.pos++ // {
	ck.space()
	if ck.take('}') {
		return true
	}
	for {
		if ck.pos == len(ck.data) {
			return ck.truncated()
		}
		if ck.data[ck.pos] != '"' {
			return ck.fail("is not valid JSON: an object's field must begin with a quotation mark")
		}
		name, escaped, ok := ck.text()
		if !ok {
			return false
		}
		if escaped {
			name = unescape(name)
		}
		ck.space()
		if !ck.expect(':') {
			return false
		}
		ck.space()
		here := place{outer: at, name: name}
		inner := free
		if s.kind == object {
			if i := s.field(name); i < 0 {
				ck.fault(&here, "is not a known field; remove it")
			} else {
				inner = s.fields[i].shape
				if bit := uint64(1) << (i % 64); seen[i/64]&bit != 0 {
					ck.fault(&here, "is given more than once")
				} else {
					seen[i/64] |= bit
				}
			}
		} else {
			if _, again := names[string(name)]; again {
				ck.fault(&here, "is given more than once")
			}
			names[string(name)] = struct{}{}
			if s.kind == dictionary {
				inner = s.elem
			}
		}
		if !ck.value(inner, &here, depth+1) {
			return false
		}
		ck.space()
		if ck.take('}') {
			return true
		}
		if !ck.expect(',') {
			return false
		}
		ck.space()
	}
}

func (ck *checker) array(s *shape, at *place, depth int) bool {
	if depth > MaxDepth {
		return ck.tooDeep()
	}
	inner := free
	if s.kind == array {
		inner = s.elem
	}
	ck.pos++ // [
	ck.space()
	if ck.take(']') {
		return true
	}
	for i := 0; ; i++ {
		here := place{outer: at, index: i}
		if !ck.value(inner, &here, depth+1) {
			return false
		}
		ck.space()
		if ck.take(']') {
			return true
		}
		if !ck.expect(',') {
			return false
		}
		ck.space()
	}
}

// text walks a string and returns what is between its quotation marks.
func (ck *checker) text() (raw []byte, escaped, ok bool) {
	ck.pos++ // "
	start := ck.pos
	for ck.pos < len(ck.data) {
		switch c := ck.data[ck.pos]; {
		case c == '"':
			raw = ck.data[start:ck.pos]
			ck.pos++
			return raw, escaped, true
		case c == '\\':
			escaped = true
			if !ck.escape() {
				return nil, false, false
			}
		case c < 0x20:
			return nil, false, ck.fail("is not valid JSON: a string holds a control character")
		default:
			ck.pos++
		}
	}
	return nil, false, ck.truncated()
}

func (ck *checker) escape() bool {
	ck.pos++ // \
	if ck.pos == len(ck.data) {
		return ck.truncated()
	}
	c := ck.data[ck.pos]
	ck.pos++
	switch c {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			if ck.pos == len(ck.data) {
				return ck.truncated()
			}
			c := ck.data[ck.pos]
			if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
				return ck.fail(`is not valid JSON: \u wants four hexadecimal digits`)
			}
			ck.pos++
		}
		return true
	}
	return ck.fail("is not valid JSON: a string holds an unknown escape")
}

// unescape is off the usual path: hardly any field name has escapes.
func unescape(raw []byte) []byte {
	var s string
	if err := json.Unmarshal(append(append([]byte{'"'}, raw...), '"'), &s); err != nil {
		return raw // unreachable: text has walked it
	}
	return []byte(s)
}

func (ck *checker) literal(want string) bool {
	for i := range len(want) {
		if ck.pos == len(ck.data) {
			return ck.truncated()
		}
		if ck.data[ck.pos] != want[i] {
			return ck.fail("is not valid JSON")
		}
		ck.pos++
	}
	return true
}

// number walks -?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?
func (ck *checker) number() bool {
	ck.take('-')
	if !ck.take('0') && !ck.digits() {
		return false
	}
	if ck.take('.') && !ck.digits() {
		return false
	}
	if ck.take('e') || ck.take('E') {
		if !ck.take('+') {
			ck.take('-')
		}
		return ck.digits()
	}
	return true
}

func (ck *checker) digits() bool {
	if ck.pos == len(ck.data) {
		return ck.truncated()
	}
	start := ck.pos
	for ck.pos < len(ck.data) && '0' <= ck.data[ck.pos] && ck.data[ck.pos] <= '9' {
		ck.pos++
	}
	if ck.pos == start {
		return ck.fail("is not valid JSON: a number lacks a digit")
	}
	return true
}

func (ck *checker) fitNumber(s *shape, at *place, literal string) bool {
	var err error
	switch s.kind {
	case integer:
		_, err = strconv.ParseInt(literal, 10, s.bits)
	case unsigned:
		_, err = strconv.ParseUint(literal, 10, s.bits)
	case number:
		if !s.own {
			_, err = strconv.ParseFloat(literal, s.bits)
		}
	default:
		err = strconv.ErrSyntax
	}
	if errors.Is(err, strconv.ErrRange) {
		ck.fault(at, "is out of range")
	} else if err != nil {
		ck.fault(at, s.must())
	}
	return true
}

func (ck *checker) space() {
	for ck.pos < len(ck.data) {
		switch ck.data[ck.pos] {
		case ' ', '\t', '\r', '\n':
			ck.pos++
		default:
			return
		}
	}
}

func (ck *checker) take(c byte) bool {
	if ck.pos < len(ck.data) && ck.data[ck.pos] == c {
		ck.pos++
		return true
	}
	return false
}

func (ck *checker) expect(c byte) bool {
	if ck.pos == len(ck.data) {
		return ck.truncated()
	}
	if ck.take(c) {
		return true
	}
	return ck.fail(fmt.Sprintf("is not valid JSON: expected %q", c))
}

func (ck *checker) truncated() bool {
	ck.malformed = "the body ends in the middle of a JSON value"
	return false
}

func (ck *checker) tooDeep() bool {
	return ck.fail(fmt.Sprintf("nests deeper than %d levels", MaxDepth))
}

func (ck *checker) fail(why string) bool {
	ck.malformed = fmt.Sprintf("the body, at byte %d, %s", ck.pos, why)
	return false
}

func (ck *checker) fault(at *place, message string) {
	if len(ck.faults) < problem.MaxFieldErrors {
		ck.faults = append(ck.faults, problem.Field(at.path(), message))
	}
}

// path writes a place as in "rules[2].window". The whole body is "body".
func (at *place) path() string {
	if at == nil {
		return "body"
	}
	return string(at.appendTo(nil))
}

func (at *place) appendTo(b []byte) []byte {
	if at.outer != nil {
		b = at.outer.appendTo(b)
	}
	if at.name == nil {
		b = append(b, '[')
		b = strconv.AppendInt(b, int64(at.index), 10)
		return append(b, ']')
	}
	if len(b) > 0 {
		b = append(b, '.')
	}
	if len(at.name) > maxNameShown {
		end := maxNameShown
		for !utf8.RuneStart(at.name[end]) {
			end--
		}
		return append(append(b, at.name[:end]...), "…"...)
	}
	return append(b, at.name...)
}

package web

import (
	"encoding"
	"encoding/json"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// shape is what JSON a Go type takes. It is worked out once per type.
type shape struct {
	kind     kind
	nullable bool
	goType   reflect.Type
	own      bool // decodes itself, so that only decoding tells if a value fits

	fields []field        // of an object
	index  map[string]int // into fields, when there are too many to scan
	elem   *shape         // of what a pointer, an array or a dictionary holds
	bits   int            // of a number
}

type kind uint8

const (
	anything kind = iota
	text
	boolean
	integer
	unsigned
	number
	object
	dictionary
	array
	pointer // takes null, or what its elem takes
)

type field struct {
	name  string
	shape *shape
}

// scanned is up to how many fields are found faster by comparing than by hashing.
const scanned = 12

// must is what a value of this kind must be, for the message of a fault.
func (s *shape) must() string {
	switch {
	case s.own && s.goType == reflect.TypeFor[time.Time]():
		return "must be an RFC 3339 time, as in 2026-01-31T12:00:00.000Z"
	case s.own && s.goType == reflect.TypeFor[uuid.UUID]():
		return "must be a UUID"
	}
	switch s.kind {
	case text:
		return "must be a string"
	case boolean:
		return "must be true or false"
	case integer:
		return "must be a whole number"
	case unsigned:
		return "must be a whole number, 0 or more"
	case number:
		return "must be a number"
	case object, dictionary:
		return "must be an object"
	case array:
		return "must be an array"
	}
	return "is not valid"
}

func (s *shape) field(name []byte) int {
	if s.index != nil {
		if i, ok := s.index[string(name)]; ok {
			return i
		}
		return -1
	}
	for i := range s.fields {
		if s.fields[i].name == string(name) {
			return i
		}
	}
	return -1
}

// shapes holds the shape of every type that was ever decoded into: a handful,
// since types come from the code and never from a request.
var shapes sync.Map // reflect.Type → *shape

func shapeOf(t reflect.Type) *shape {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape)
	}
	b := shapeBuilder{}
	s := b.build(t)
	kept, _ := shapes.LoadOrStore(t, s)
	return kept.(*shape)
}

// shapeBuilder remembers the types under way, which a recursive type meets again.
type shapeBuilder map[reflect.Type]*shape

func (b shapeBuilder) build(t reflect.Type) *shape {
	if s, ok := b[t]; ok {
		return s
	}
	s := &shape{goType: t}
	b[t] = s
	address := reflect.PointerTo(t)
	switch {
	case t.Kind() == reflect.Pointer:
		s.kind, s.nullable, s.elem = pointer, true, b.build(t.Elem())
	case t.Implements(reflect.TypeFor[optional]()):
		s.kind, s.nullable = pointer, true
		s.elem = b.build(reflect.Zero(t).Interface().(optional).valueType())
	case t == reflect.TypeFor[time.Time]():
		s.kind, s.own = text, true
	case address.Implements(reflect.TypeFor[json.Unmarshaler]()):
		s.kind, s.own, s.nullable = anything, true, true
	case address.Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		s.kind, s.own = text, true
	default:
		b.buildPlain(s, t)
	}
	return s
}

// buildPlain is for types that encoding/json decodes by their kind.
func (b shapeBuilder) buildPlain(s *shape, t reflect.Type) {
	switch t.Kind() {
	case reflect.String:
		s.kind = text
		if t == reflect.TypeFor[json.Number]() {
			s.kind, s.own = number, true
		}
	case reflect.Bool:
		s.kind = boolean
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.kind, s.bits = integer, t.Bits()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		s.kind, s.bits = unsigned, t.Bits()
	case reflect.Float32, reflect.Float64:
		s.kind, s.bits = number, t.Bits()
	case reflect.Struct:
		s.kind = object
		b.addFields(s, t)
	case reflect.Map:
		s.kind, s.nullable, s.elem = dictionary, true, b.build(t.Elem())
		s.own = t.Key().Kind() != reflect.String
	case reflect.Slice:
		s.nullable = true
		if t.Elem().Kind() == reflect.Uint8 {
			s.kind, s.own = text, true // base64
			return
		}
		s.kind, s.elem = array, b.build(t.Elem())
	case reflect.Array:
		s.kind, s.elem = array, b.build(t.Elem())
	default:
		s.kind, s.nullable = anything, true
	}
}

// addFields lists the fields that encoding/json would fill: the exported ones by
// their names or tags, then those of embedded structs, level by level, so that an
// outer field hides an inner one.
func (b shapeBuilder) addFields(s *shape, t reflect.Type) {
	for level := []reflect.Type{t}; len(level) > 0; {
		var below []reflect.Type
		for _, t := range level {
			for f := range t.Fields() {
				name, options, more := strings.Cut(f.Tag.Get("json"), ",")
				if name == "-" && !more {
					continue
				}
				if f.Anonymous && name == "" {
					inner := f.Type
					if inner.Kind() == reflect.Pointer {
						inner = inner.Elem()
					}
					if inner.Kind() == reflect.Struct {
						below = append(below, inner)
						continue
					}
				}
				if !f.IsExported() {
					continue
				}
				if name == "" {
					name = f.Name
				}
				if s.field([]byte(name)) >= 0 {
					continue
				}
				fs := b.build(f.Type)
				if options == "string" || strings.HasSuffix(options, ",string") {
					fs = &shape{kind: anything, nullable: true, goType: f.Type}
				}
				s.fields = append(s.fields, field{name: name, shape: fs})
			}
		}
		level = below
	}
	if len(s.fields) > scanned {
		s.index = make(map[string]int, len(s.fields))
		for i, f := range s.fields {
			s.index[f.name] = i
		}
	}
}

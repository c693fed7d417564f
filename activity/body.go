package activity

import (
	"github.com/meet5/backend/service/web"
)

// body is what a client sends of one activity, not looked at any further. A nil
// field was not given, or was null. The bytes may share the request's memory.
type body struct {
	kind, target, id, occurredAt, actor []byte
}

// wireBody is the body for web.DecodeStrict, which decides what is well formed.
type wireBody struct {
	Type       *string `json:"type"`
	Target     *string `json:"target"`
	ID         *string `json:"id"`
	OccurredAt *string `json:"occurred_at"`
	Actor      *string `json:"actor"`
}

// decodeBody reads one activity. The plain form that clients send takes a short
// way; whatever is out of the ordinary goes through web.DecodeStrict, whose
// errors are the only ones.
func decodeBody(data []byte) (body, error) {
	if b, ok := scanBody(data); ok {
		return b, nil
	}
	var w wireBody
	if err := web.DecodeStrict(data, &w); err != nil {
		return body{}, err
	}
	return body{
		kind: bytesOf(w.Type), target: bytesOf(w.Target), id: bytesOf(w.ID),
		occurredAt: bytesOf(w.OccurredAt), actor: bytesOf(w.Actor),
	}, nil
}

func bytesOf(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}

// scanBody reads an object of known fields, each given once, whose values are
// strings of printable ASCII without escapes. It is false for anything else, be
// it right or wrong.
func scanBody(data []byte) (b body, ok bool) {
	i := skipSpace(data, 0)
	if i == len(data) || data[i] != '{' {
		return b, false
	}
	for i = skipSpace(data, i+1); ; i = skipSpace(data, i+1) {
		name, next := scanString(data, i)
		if next < 0 {
			return b, false
		}
		i = skipSpace(data, next)
		if i == len(data) || data[i] != ':' {
			return b, false
		}
		value, next := scanString(data, skipSpace(data, i+1))
		if next < 0 {
			return b, false
		}
		var field *[]byte
		switch string(name) {
		case "type":
			field = &b.kind
		case "target":
			field = &b.target
		case "id":
			field = &b.id
		case "occurred_at":
			field = &b.occurredAt
		case "actor":
			field = &b.actor
		default:
			return b, false
		}
		if *field != nil {
			return b, false
		}
		*field = value
		i = skipSpace(data, next)
		if i == len(data) {
			return b, false
		}
		if data[i] == '}' {
			return b, skipSpace(data, i+1) == len(data)
		}
		if data[i] != ',' {
			return b, false
		}
	}
}

// scanString returns what stands between the quotation marks at i, never nil, and
// the index after them; a negative one if it is not a plain string.
func scanString(data []byte, i int) (s []byte, next int) {
	if i >= len(data) || data[i] != '"' {
		return nil, -1
	}
	for j := i + 1; j < len(data); j++ {
		switch c := data[j]; {
		case c == '"':
			return data[i+1 : j : j], j + 1
		case c == '\\' || c < 0x20 || c > 0x7e:
			return nil, -1
		}
	}
	return nil, -1
}

func skipSpace(data []byte, i int) int {
	for i < len(data) && (data[i] == ' ' || data[i] == '\t' || data[i] == '\n' || data[i] == '\r') {
		i++
	}
	return i
}

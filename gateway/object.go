package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
)

// field is a member of a JSON object.
type field struct {
	name  string
	value json.RawMessage
}

// object is a JSON object whose order, and whose fields that the gateway does not
// know, are kept.
type object []field

var errNoObject = errors.New("not a JSON object")

// UnmarshalJSON implements json.Unmarshaler.
func (o *object) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.Join(errNoObject, err)
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return err
		}
		f := field{name: t.(string)} // the decoder takes nothing else for a name
		if err := d.Decode(&f.value); err != nil {
			return err
		}
		*o = append(*o, f)
	}
	return nil
}

// MarshalJSON implements json.Marshaler.
func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		name, err := json.Marshal(f.name)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, name...), ':'), f.value...)
	}
	return append(b, '}'), nil
}

// get returns the value of a field, nil if there is none.
func (o object) get(name string) json.RawMessage {
	for _, f := range o {
		if f.name == name {
			return f.value
		}
	}
	return nil
}

// set gives a field a value. A new field comes last.
func (o *object) set(name string, v any) error {
	value, err := json.Marshal(v)
	if err != nil {
		return err
	}
	for i := range *o {
		if (*o)[i].name == name {
			(*o)[i].value = value
			return nil
		}
	}
	*o = append(*o, field{name, value})
	return nil
}

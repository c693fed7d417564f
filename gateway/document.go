package gateway

import (
	_ "embed" // the document
	"encoding/json"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml"
)

// openapi is the contract, written by hand. It is served as JSON.
//
//go:embed openapi.yaml
var openapi []byte

// document is the contract: as it is served, and what the documentation page
// shows of it.
type document struct {
	json []byte

	Info struct {
		Title       string `json:"title"`
		Version     string `json:"version"`
		Description string `json:"description"`
	} `json:"info"`
	Tags []struct {
		Name        string `json:"name"`
		Description string `json:"description"`
	} `json:"tags"`
	Paths      object `json:"paths"`
	Components struct {
		Parameters map[string]parameter `json:"parameters"`
		Responses  map[string]response  `json:"responses"`
		Headers    map[string]header    `json:"headers"`
		Schemas    object               `json:"schemas"`
	} `json:"components"`
}

// operation is a method of a path.
type operation struct {
	Method      string                `json:"-"`
	Path        string                `json:"-"`
	Tags        []string              `json:"tags"`
	OperationID string                `json:"operationId"`
	Summary     string                `json:"summary"`
	Description string                `json:"description"`
	Parameters  []parameter           `json:"parameters"`
	RequestBody *requestBody          `json:"requestBody"`
	Responses   object                `json:"responses"`
	Security    []map[string][]string `json:"security"`
}

type parameter struct {
	Ref         string  `json:"$ref"`
	Name        string  `json:"name"`
	In          string  `json:"in"`
	Required    bool    `json:"required"`
	Description string  `json:"description"`
	Schema      *schema `json:"schema"`
}

type requestBody struct {
	Description string `json:"description"`
	Content     object `json:"content"`
}

type response struct {
	Ref         string `json:"$ref"`
	Description string `json:"description"`
	Headers     object `json:"headers"`
	Content     object `json:"content"`
}

type header struct {
	Description string `json:"description"`
}

type mediaType struct {
	Schema *schema `json:"schema"`
}

// schema is as much of JSON Schema as the document uses.
type schema struct {
	Ref         string            `json:"$ref"`
	Type        stringOrList      `json:"type"`
	Format      string            `json:"format"`
	Description string            `json:"description"`
	Enum        []json.RawMessage `json:"enum"`
	Const       json.RawMessage   `json:"const"`
	Default     json.RawMessage   `json:"default"`
	Items       *schema           `json:"items"`
	Properties  object            `json:"properties"`
	Required    []string          `json:"required"`
	AllOf       []schema          `json:"allOf"`
	OneOf       []schema          `json:"oneOf"`
	Minimum     json.Number       `json:"minimum"`
	Maximum     json.Number       `json:"maximum"`
	MinLength   json.Number       `json:"minLength"`
	MaxLength   json.Number       `json:"maxLength"`
	MinItems    json.Number       `json:"minItems"`
	MaxItems    json.Number       `json:"maxItems"`
	Pattern     string            `json:"pattern"`
}

// stringOrList is a schema's type: one, or several.
type stringOrList []string

// UnmarshalJSON implements json.Unmarshaler.
func (s *stringOrList) UnmarshalJSON(data []byte) error {
	if data[0] == '[' {
		return json.Unmarshal(data, (*[]string)(s))
	}
	*s = make([]string, 1)
	return json.Unmarshal(data, &(*s)[0])
}

// readDocument reads the embedded document.
func readDocument() (*document, error) {
	raw, err := yaml.YAMLToJSON(openapi)
	if err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	d := &document{}
	if err := json.Unmarshal(raw, d); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	var whole object
	if err := json.Unmarshal(raw, &whole); err != nil {
		return nil, fmt.Errorf("read the OpenAPI document: %w", err)
	}
	d.json, err = json.Marshal(whole)
	return d, err
}

// operations lists what the document describes, in its order.
func (d *document) operations() ([]operation, error) {
	var all []operation
	for _, p := range d.Paths {
		var methods object
		if err := json.Unmarshal(p.value, &methods); err != nil {
			return nil, fmt.Errorf("path %s: %w", p.name, err)
		}
		for _, m := range methods {
			op := operation{Method: strings.ToUpper(m.name), Path: p.name}
			if err := json.Unmarshal(m.value, &op); err != nil {
				return nil, fmt.Errorf("%s %s: %w", op.Method, p.name, err)
			}
			all = append(all, op)
		}
	}
	return all, nil
}

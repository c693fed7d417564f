package register

import (
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/goccy/go-yaml"

	"github.com/meet5/backend/fraud/rule"
)

// maxFieldDiffs is how many fields that differ are listed; the text of a difference
// shows all.
const maxFieldDiffs = 500

// YAML writes a rule as rule.Parse reads it, with its fields in the order of their
// definition: two rules are equal if their texts are.
func YAML(r rule.Rule) ([]byte, error) {
	text, err := json.Marshal(r)
	if err == nil {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return nil, fmt.Errorf("write rule %s: %w", r.ID, err)
	}
	return text, nil
}

// FieldDiff is a field in which two rules differ.
type FieldDiff struct {
	// Field is its path, as in a rule.Fault.
	Field string `json:"field"`
	// From and To are its values, null where it is not there.
	From any `json:"from"`
	To   any `json:"to"`
}

// compare lists the fields in which two rules differ: those of the new one in its
// order, then those that it has no more.
func compare(old, fresh rule.Rule) ([]FieldDiff, error) {
	was, err := flatten(old)
	if err != nil {
		return nil, err
	}
	is, err := flatten(fresh)
	if err != nil {
		return nil, err
	}
	diffs := []FieldDiff{}
	for _, at := range append(is.paths, was.paths...) {
		if from, to := was.values[at], is.values[at]; from != to {
			diffs = append(diffs, FieldDiff{at, from, to})
		}
		delete(was.values, at)
		delete(is.values, at)
	}
	return diffs[:min(len(diffs), maxFieldDiffs)], nil
}

// flat is the plain values of a rule by their paths.
type flat struct {
	paths  []string // in the order in which they are written
	values map[string]any
}

func flatten(r rule.Rule) (flat, error) {
	text, err := json.Marshal(r)
	if err != nil {
		return flat{}, fmt.Errorf("write rule %s: %w", r.ID, err)
	}
	var whole any
	if err := yaml.UnmarshalWithOptions(text, &whole, yaml.UseOrderedMap()); err != nil {
		return flat{}, fmt.Errorf("read rule %s: %w", r.ID, err)
	}
	f := flat{values: make(map[string]any)}
	f.add("", whole)
	return f, nil
}

func (f *flat) add(path string, v any) {
	switch v := v.(type) {
	case yaml.MapSlice:
		for _, item := range v {
			name := fmt.Sprint(item.Key)
			if path != "" {
				name = path + "." + name
			}
			f.add(name, item.Value)
		}
	case []any:
		for i, item := range v {
			f.add(path+"["+strconv.Itoa(i)+"]", item)
		}
	default:
		f.paths = append(f.paths, path)
		f.values[path] = v
	}
}

package rule_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"pgregory.net/rapid"

	"github.com/meet5/backend/fraud/rule"
)

func compileSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(rule.Schema))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("rule", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("rule")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// check validates YAML or JSON.
func check(s *jsonschema.Schema, text []byte) error {
	b, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b))
	if err != nil {
		return err
	}
	return s.Validate(doc)
}

func TestWhatParseTakesTheSchemaTakes(t *testing.T) {
	s := compileSchema(t)
	shipped, err := filepath.Glob("../rulebook/*.yaml")
	if err != nil || len(shipped) == 0 {
		t.Fatal("no rules", err)
	}
	for _, file := range shipped {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := check(s, text); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(drawRule(t))
		if err != nil {
			t.Fatal(err)
		}
		if err := check(s, text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	})
}

// TestTheSchemaKnowsTheFieldsThatParseKnows goes by what Parse says of a field with a
// value that no field can have.
func TestTheSchemaKnowsTheFieldsThatParseKnows(t *testing.T) {
	var doc map[string]any
	if err := json.Unmarshal(rule.Schema, &doc); err != nil {
		t.Fatal(err)
	}
	properties := func(path ...string) []string {
		at := doc
		for _, name := range path {
			next, ok := at[name].(map[string]any)
			if !ok {
				t.Fatalf("the schema has no %v", path)
			}
			at = next
		}
		return slices.Sorted(maps.Keys(at))
	}
	for _, c := range []struct {
		text string // with a place for fields
		path []string
	}{
		{"{%s}", []string{"properties"}},
		{"{where: {%s}}", []string{"properties", "where", "properties"}},
		{"{where: {account_age: {%s}}}", []string{"properties", "where", "properties", "account_age", "properties"}},
		{"{where: {hour: {%s}}}", []string{"properties", "where", "properties", "hour", "properties"}},
		{"{window: {%s}}", []string{"properties", "window", "properties"}},
		{"{ratio: {%s}}", []string{"properties", "ratio", "properties"}},
		{"{sequence: {%s}}", []string{"properties", "sequence", "properties"}},
		{"{lockstep: {%s}}", []string{"properties", "lockstep", "properties"}},
		{"{regularity: {%s}}", []string{"properties", "regularity", "properties"}},
		{"{cases: [{%s}]}", []string{"$defs", "case", "properties"}},
		{"{cases: [{history: [{%s}]}]}", []string{"$defs", "step", "properties"}},
	} {
		for _, name := range properties(c.path...) {
			_, err := rule.Parse(fmt.Appendf(nil, c.text, name+": !!null x"))
			if err == nil || strings.Contains(err.Error(), "is not a field") {
				t.Errorf("%v: Parse does not know %s: %v", c.path, name, err)
			}
		}
	}
}

func TestTheSchemaRefusesWhatItCan(t *testing.T) {
	s := compileSchema(t)
	const burst = "id: a\ntitle: A\nevents: [like]\nwhere: {account_age: {below: 1d}}\nwindow: {sliding: 1h}\naggregate: burst\nthreshold: 3\nscore: 1\n"
	const lockstep = "id: a\ntitle: A\nevents: [like]\nwindow: {sliding: 1h}\naggregate: lockstep\nlockstep: {targets: 2}\nthreshold: 3\nscore: 1\n" +
		"cases: [{name: n, history: [{type: like, actors: 3}], expect: silent}]\n"
	for _, good := range []string{burst + "key: target\n", lockstep} {
		if err := check(s, []byte(good)); err != nil {
			t.Error(err)
		}
		if _, err := rule.Parse([]byte(good)); err != nil {
			t.Error(err)
		}
	}
	for name, text := range map[string]string{
		"a field that is unknown":    small + "colour: red\n",
		"no threshold":               strings.Replace(small, "threshold: 3\n", "", 1),
		"threshold over its bound":   strings.Replace(small, "threshold: 3", "threshold: 10001", 1),
		"a negative window":          strings.Replace(small, "10m", "-10m", 1),
		"two windows":                strings.Replace(small, "{sliding: 10m}", "{sliding: 10m, since_first_event: 1h}", 1),
		"parameters of another":      small + "ratio: {of: like, per: visit, volume: 10}\n",
		"no parameters":              strings.Replace(small, "paired_distinct", "sequence", 1),
		"a burst by actor":           burst + "key: actor\n",
		"a burst of any age":         strings.Replace(burst, "{below: 1d}", "{at_least: 1d}", 1) + "key: target\n",
		"a target's account":         strings.Replace(burst, "sliding", "since_account_creation", 1) + "key: target\n",
		"a target's targets":         strings.Replace(burst, "where: {", "where: {target: new, ", 1) + "key: target\n",
		"a lockstep by target":       lockstep + "key: target\n",
		"a lockstep of unlikes":      strings.Replace(lockstep, "[like]", "[like, unlike]", 1),
		"a lockstep from the first":  strings.Replace(lockstep, "sliding", "since_first_event", 1),
		"a lockstep of one":          strings.Replace(lockstep, "threshold: 3", "threshold: 1", 1),
		"a lockstep of many":         strings.Replace(lockstep, "threshold: 3", "threshold: 129", 1),
		"a lockstep on one":          strings.Replace(lockstep, "targets: 2", "targets: 1", 1),
		"a lockstep on many":         strings.Replace(lockstep, "targets: 2", "targets: 33", 1),
		"a lockstep on new targets":  lockstep + "where: {target: new}\n",
		"actors of a count":          strings.Replace(strings.Replace(lockstep, "aggregate: lockstep", "aggregate: count", 1), "lockstep: {targets: 2}\n", "", 1),
		"no actors":                  strings.Replace(lockstep, "actors: 3", "actors: 0", 1),
		"an event that there is not": strings.Replace(small, "[like, visit]", "[like, poke]", 1),
	} {
		if check(s, []byte(text)) == nil {
			t.Errorf("%s: the schema takes it", name)
		}
		if _, err := rule.Parse([]byte(text)); err == nil {
			t.Errorf("%s: Parse takes it", name)
		}
	}
}

package rule

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/lexer"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"
)

// Bounds of a text of rules.
const (
	// MaxBytes is the largest text.
	MaxBytes = 256 << 10
	// maxTokens and maxDepth keep the YAML parser, whose work grows with the
	// square of a mapping's keys and of the nesting of brackets, below a moment.
	// A rule has some hundred tokens.
	maxTokens = 16_384
	maxDepth  = 16
	// maxFaults is how many faults are worth reading at a time.
	maxFaults = 100
)

// Parse reads rules: one YAML document a rule, or JSON, of which YAML is a
// superset. The error is all Faults of the text. A text without a rule is one.
func Parse(text []byte) ([]Rule, error) {
	file, err := parseText(text)
	if err != nil {
		return nil, err
	}
	var rules []Rule
	var faults Faults
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		d := decoder{places: make(map[string]*token.Position)}
		r := d.rule(doc.Body)
		if err := r.Validate(); err != nil && d.places[""] != nil {
			d.place(err)
		}
		r.normalize()
		rules = append(rules, r)
		faults = append(faults, d.faults...)
	}
	if len(rules) == 0 {
		faults = Faults{{Line: 1, Column: 1, Message: "there is no rule in it"}}
	}
	if len(faults) > maxFaults {
		more := len(faults) - maxFaults
		faults = append(faults[:maxFaults:maxFaults], Fault{Message: fmt.Sprintf("and %d more faults", more)})
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return rules, nil
}

// parseText makes a syntax tree of what is small and flat enough for the parser.
func parseText(text []byte) (file *ast.File, err error) {
	if len(text) > MaxBytes {
		return nil, Faults{{Message: fmt.Sprintf("the text has %d bytes, at most %d are allowed", len(text), MaxBytes)}}
	}
	defer func() {
		// The parser gives up on some malformed texts with a panic.
		if v := recover(); v != nil {
			err = Faults{{Line: 1, Column: 1, Message: "this is not YAML that can be read"}}
		}
	}()
	tokens := lexer.Tokenize(string(text))
	if len(tokens) > maxTokens {
		return nil, Faults{{Message: fmt.Sprintf("the text has more than %d words and signs; split it", maxTokens)}}
	}
	depth := 0
	for _, t := range tokens {
		switch t.Type {
		case token.SequenceStartType, token.MappingStartType:
			depth++
		case token.SequenceEndType, token.MappingEndType:
			depth--
		case token.AnchorType, token.AliasType, token.MergeKeyType:
			return nil, Faults{faultAt(t.Position, "anchors, aliases and merges are not allowed; write the value out")}
		}
		if depth > maxDepth {
			return nil, Faults{faultAt(t.Position, fmt.Sprintf("brackets are nested deeper than %d", maxDepth))}
		}
	}
	file, err = parser.Parse(tokens, 0, parser.AllowDuplicateMapKey())
	if err == nil {
		return file, nil
	}
	f := Fault{Line: 1, Column: 1, Message: "this is not YAML that can be read"}
	if syntax, ok := errors.AsType[*yaml.SyntaxError](err); ok {
		f = faultAt(syntax.Token.Position, syntax.Message)
	}
	return nil, Faults{f}
}

func faultAt(p *token.Position, message string) Fault {
	f := Fault{Message: message}
	if p != nil {
		f.Line, f.Column = p.Line, p.Column
	}
	return f
}

// place adds the faults that Validate found, each with the place in the text of
// its field, or of what should hold it. What follows from a fault of the text is
// left out.
func (d *decoder) place(err error) {
	found, _ := errors.AsType[Faults](err)
	read := decoder{faults: d.faults, meant: d.meant}
	for _, f := range found {
		if read.faulty(f.Field) {
			continue
		}
		for field := f.Field; ; field = parent(field) {
			if p := d.places[field]; p != nil {
				f.Line, f.Column = p.Line, p.Column
				break
			}
			if field == "" {
				break
			}
		}
		d.faults = append(d.faults, f)
	}
	slices.SortStableFunc(d.faults, func(a, b Fault) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}

// faulty says whether a fault of the text is about this field, something in it,
// or what holds it.
func (d *decoder) faulty(field string) bool {
	about := func(other string) bool {
		return other == field || other != "" && (within(field, other) || within(other, field))
	}
	return slices.ContainsFunc(d.meant, about) ||
		slices.ContainsFunc(d.faults, func(f Fault) bool { return about(f.Field) })
}

// within says whether a field's path leads through another's.
func within(field, outer string) bool {
	return len(field) > len(outer) && field[:len(outer)] == outer && (field[len(outer)] == '.' || field[len(outer)] == '[')
}

// parent cuts the last name or index off a field's path.
func parent(field string) string {
	for i := len(field) - 1; i > 0; i-- {
		if field[i] == '.' || field[i] == '[' {
			return field[:i]
		}
	}
	return ""
}

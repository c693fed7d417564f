package gateway

import (
	"bytes"
	_ "embed" // the page's template
	"encoding/json"
	"fmt"
	"html/template"
	"slices"
	"strings"
)

//go:embed docs.html
var docsTemplate string

// docsPage is what the template shows.
type docsPage struct {
	Title, Version string
	About          []string
	Sections       []docsSection
	Schemas        []docsSchema
}

type docsSection struct {
	Name, About string
	Operations  []docsOperation
}

type docsOperation struct {
	ID, Method, Path, Summary string
	About                     []string
	Public                    bool
	Parameters                []docsRow
	Bodies                    []docsBody
	BodyAbout                 string
	Responses                 []docsResponse
}

// docsRow is a parameter, a header or a property.
type docsRow struct {
	Name, Where, About string
	Required           bool
	Type               template.HTML
}

type docsBody struct {
	Media string
	Type  template.HTML
}

type docsResponse struct {
	Status, About string
	Headers       []docsRow
	Bodies        []docsBody
}

type docsSchema struct {
	Name, About string
	Type        template.HTML
	Rows        []docsRow
}

// renderDocs makes the documentation page of the document.
func renderDocs(d *document) ([]byte, error) {
	t, err := template.New("docs").Parse(docsTemplate)
	if err != nil {
		return nil, fmt.Errorf("read the template of the documentation: %w", err)
	}
	page, err := d.page()
	if err != nil {
		return nil, fmt.Errorf("make the documentation: %w", err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, page); err != nil {
		return nil, fmt.Errorf("make the documentation: %w", err)
	}
	return out.Bytes(), nil
}

func (d *document) page() (docsPage, error) {
	page := docsPage{Title: d.Info.Title, Version: d.Info.Version, About: paragraphs(d.Info.Description)}
	operations, err := d.operations()
	if err != nil {
		return page, err
	}
	for _, tag := range d.Tags {
		s := docsSection{Name: tag.Name, About: tag.Description}
		for _, op := range operations {
			if !slices.Contains(op.Tags, tag.Name) {
				continue
			}
			shown, err := d.operation(op)
			if err != nil {
				return page, fmt.Errorf("%s %s: %w", op.Method, op.Path, err)
			}
			s.Operations = append(s.Operations, shown)
		}
		page.Sections = append(page.Sections, s)
	}
	for _, f := range d.Components.Schemas {
		var s schema
		if err := json.Unmarshal(f.value, &s); err != nil {
			return page, fmt.Errorf("schema %s: %w", f.name, err)
		}
		rows, err := rowsOf(s)
		if err != nil {
			return page, fmt.Errorf("schema %s: %w", f.name, err)
		}
		page.Schemas = append(page.Schemas, docsSchema{Name: f.name, About: s.Description, Type: typeOf(&s), Rows: rows})
	}
	return page, nil
}

func (d *document) operation(op operation) (docsOperation, error) {
	shown := docsOperation{
		ID: op.OperationID, Method: op.Method, Path: op.Path, Summary: op.Summary,
		About: paragraphs(op.Description), Public: op.Security != nil && len(op.Security) == 0,
	}
	for _, p := range op.Parameters {
		if p.Ref != "" {
			p = d.Components.Parameters[refName(p.Ref)]
		}
		shown.Parameters = append(shown.Parameters, docsRow{
			Name: p.Name, Where: p.In, Required: p.Required, Type: typeOf(p.Schema), About: p.Description,
		})
	}
	var err error
	if op.RequestBody != nil {
		shown.BodyAbout = op.RequestBody.Description
		if shown.Bodies, err = bodiesOf(op.RequestBody.Content); err != nil {
			return shown, err
		}
	}
	for _, f := range op.Responses {
		var r response
		if err := json.Unmarshal(f.value, &r); err != nil {
			return shown, err
		}
		if r.Ref != "" {
			r = d.Components.Responses[refName(r.Ref)]
		}
		s := docsResponse{Status: f.name, About: r.Description}
		if s.Bodies, err = bodiesOf(r.Content); err != nil {
			return shown, err
		}
		for _, h := range r.Headers {
			about, err := d.header(h)
			if err != nil {
				return shown, err
			}
			s.Headers = append(s.Headers, docsRow{Name: h.name, About: about})
		}
		shown.Responses = append(shown.Responses, s)
	}
	return shown, nil
}

func (d *document) header(f field) (string, error) {
	var h struct {
		Ref string `json:"$ref"`
		header
	}
	err := json.Unmarshal(f.value, &h)
	if h.Ref != "" {
		return d.Components.Headers[refName(h.Ref)].Description, err
	}
	return h.Description, err
}

func bodiesOf(content object) ([]docsBody, error) {
	var bodies []docsBody
	for _, f := range content {
		var m mediaType
		if err := json.Unmarshal(f.value, &m); err != nil {
			return nil, err
		}
		bodies = append(bodies, docsBody{Media: f.name, Type: typeOf(m.Schema)})
	}
	return bodies, nil
}

// rowsOf lists a schema's properties, and those of what it is composed of in
// place.
func rowsOf(s schema) ([]docsRow, error) {
	var rows []docsRow
	for _, part := range s.AllOf {
		more, err := rowsOf(part)
		if err != nil {
			return nil, err
		}
		rows = append(rows, more...)
	}
	for _, f := range s.Properties {
		var p schema
		if err := json.Unmarshal(f.value, &p); err != nil {
			return nil, fmt.Errorf("property %s: %w", f.name, err)
		}
		rows = append(rows, docsRow{
			Name: f.name, Type: typeOf(&p), About: p.Description, Required: slices.Contains(s.Required, f.name),
		})
	}
	return rows, nil
}

// typeOf says a schema's type in a few words, with links to those that have a
// name. The words come from the embedded document and are escaped.
func typeOf(s *schema) template.HTML {
	if s == nil {
		return ""
	}
	if s.Ref != "" {
		name := template.HTMLEscapeString(refName(s.Ref))
		return template.HTML(`<a href="#schema-` + name + `">` + name + `</a>`) //nolint:gosec // escaped
	}
	var words []string
	for i := range s.AllOf {
		if s.AllOf[i].Ref != "" {
			words = append(words, string(typeOf(&s.AllOf[i])))
		}
	}
	for i := range s.OneOf {
		if i > 0 {
			words = append(words, "or")
		}
		words = append(words, string(typeOf(&s.OneOf[i])))
	}
	if s.Items != nil {
		words = append(words, "array of "+string(typeOf(s.Items)))
	} else if len(s.Type) > 0 {
		words = append(words, template.HTMLEscapeString(strings.Join(s.Type, " or ")))
	}
	if more := boundsOf(s); more != "" {
		words = append(words, "<small>"+template.HTMLEscapeString(more)+"</small>")
	}
	return template.HTML(strings.Join(words, " ")) //nolint:gosec // escaped
}

// boundsOf says what else a value must be.
func boundsOf(s *schema) string {
	var words []string
	if s.Format != "" {
		words = append(words, s.Format)
	}
	if s.Const != nil {
		words = append(words, string(s.Const))
	}
	if len(s.Enum) > 0 {
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = string(v)
		}
		words = append(words, "one of "+strings.Join(values, ", "))
	}
	for _, b := range []struct {
		least, most json.Number
		of          string
	}{{s.Minimum, s.Maximum, ""}, {s.MinLength, s.MaxLength, " characters"}, {s.MinItems, s.MaxItems, " elements"}} {
		switch {
		case b.least != "" && b.most != "":
			words = append(words, string(b.least)+" to "+string(b.most)+b.of)
		case b.least != "":
			words = append(words, "at least "+string(b.least)+b.of)
		case b.most != "":
			words = append(words, "at most "+string(b.most)+b.of)
		}
	}
	if s.Default != nil {
		words = append(words, "default "+string(s.Default))
	}
	return strings.Join(words, "; ")
}

func refName(ref string) string { return ref[strings.LastIndexByte(ref, '/')+1:] }

// paragraphs splits a text at its blank lines.
func paragraphs(text string) []string {
	var all []string
	for p := range strings.SplitSeq(text, "\n\n") {
		if p = strings.TrimSpace(p); p != "" {
			all = append(all, p)
		}
	}
	return all
}

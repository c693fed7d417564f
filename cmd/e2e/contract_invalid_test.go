package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

// wrong is a way to ask that must be refused.
type wrong struct {
	what   string
	change func(s *sent)
	want   []int // the statuses that say so
}

// tooLarge is more than any body may have.
const tooLarge = 9 << 20

// askInvalid asks for every operation in every wrong way. Each is what was accepted
// before, with one thing changed.
func (a *asker) askInvalid(p cast) {
	for _, op := range a.operations() {
		good, ok := a.accepted[op.OperationID]
		if !ok {
			continue // another check tells
		}
		good.header.Del("Authorization")
		for _, w := range wrongs(op, p) {
			s := good
			s.header = good.header.Clone()
			if op.Security == nil {
				// A token that is good still, and has each role that may be asked for.
				s.header.Set("Authorization", "Bearer "+p.all.token)
			}
			if op.OperationID == "signInOutside" {
				s.body = a.withFreshToken(s.body)
			}
			w.change(&s)
			got := a.send(s)
			if op.OperationID == "validateRules" && got == http.StatusOK && bytes.HasPrefix(a.last, []byte(`{"valid":false`)) {
				continue // which is how it says no
			}
			if !slices.Contains(w.want, got) {
				a.t.Errorf("%s, %s: status %d, want one of %d: %s %s?%s %.300q\n%s", op.OperationID, w.what, got, w.want, s.method, s.path, s.query, s.body, a.last)
			}
		}
	}
}

// withFreshToken has another ID token in a body, since each works once.
func (a *asker) withFreshToken(body []byte) []byte {
	a.t.Helper()
	fields := map[string]any{}
	err := json.Unmarshal(body, &fields)
	fields["id_token"] = a.outside.idToken()
	if err == nil {
		body, err = json.Marshal(fields)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	return body
}

func (a *asker) send(s sent) int {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.ctx, s.method, a.h.url+s.path+"?"+s.query, bytes.NewReader(s.body))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header = s.header
	res, err := a.Do(r)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	return res.StatusCode
}

// wrongs are the wrong ways to ask for an operation.
func wrongs(op operation, p cast) (all []wrong) {
	add := func(what string, change func(*sent), want ...int) { all = append(all, wrong{what, change, want}) }
	header := func(name, value string) func(*sent) {
		return func(s *sent) { s.header.Set(name, value) }
	}
	if op.Security == nil {
		add("without a token", func(s *sent) { s.header.Del("Authorization") }, 401)
		add("with a token that is none", header("Authorization", "Bearer x.y.z"), 401)
		add("with a token that was changed", header("Authorization", "Bearer "+p.all.token[:len(p.all.token)-4]+"AAAA"), 401)
	}
	if op.Responses.Status(http.StatusForbidden) != nil {
		add("as a member", header("Authorization", "Bearer "+p.bert.token), 403)
		add("as a service", header("Authorization", "Bearer "+p.service.token), 403)
	}
	for _, ref := range slices.Concat(op.item.Parameters, op.Parameters) {
		param := ref.Value
		for _, bad := range badTexts(param.Schema.Value) {
			what := fmt.Sprintf("%s %s is %.40q", param.In, param.Name, bad)
			switch param.In {
			case openapi3.ParameterInPath:
				add(what, func(s *sent) { s.path = fill(strings.Replace(op.path, "{"+param.Name+"}", bad, 1), s.params) }, 404, 422)
			case openapi3.ParameterInQuery:
				add(what, setQuery(param.Name, bad), 422)
			}
		}
		switch {
		case param.In == openapi3.ParameterInPath && param.Schema.Value.Format == "uuid":
			add("of one that there is not", func(s *sent) {
				s.path = fill(strings.Replace(op.path, "{"+param.Name+"}", uuid.NewString(), 1), s.params)
			}, 404)
		case param.Name == "cursor":
			add("with a cursor of its own making", setQuery("cursor", "elsewhere"), 422)
		case param.In == openapi3.ParameterInQuery && param.Required:
			add("without "+param.Name, func(s *sent) { q, _ := url.ParseQuery(s.query); q.Del(param.Name); s.query = q.Encode() }, 422)
		case param.Name == "If-Match" && param.Required:
			add("without If-Match", func(s *sent) { s.header.Del("If-Match") }, 428)
			fallthrough
		case param.Name == "If-Match":
			add("of another version", header("If-Match", `"another"`), 412)
		case param.Name == "Last-Event-ID":
			add("from an event that was none", header("Last-Event-ID", "elsewhere"), 200, 422) // 200 begins with a reset
		case param.Name == "Accept":
			add("as a picture", header("Accept", "image/png"), 406)
		}
	}
	if op.RequestBody != nil {
		all = append(all, wrongBodies(op)...)
	}
	return all
}

// fill puts what stands for names into a template.
func fill(template string, params map[string]string) string {
	for name, value := range params {
		template = strings.ReplaceAll(template, "{"+name+"}", value)
	}
	return template
}

func setQuery(name, value string) func(*sent) {
	return func(s *sent) {
		q, _ := url.ParseQuery(s.query)
		q.Set(name, value)
		s.query = q.Encode()
	}
}

// badTexts are values of a parameter that its schema does not allow.
func badTexts(s *openapi3.Schema) (bad []string) {
	switch {
	case s.Type.Is("integer"):
		bad = append(bad, "many", "1.5", "99999999999999999999")
		if s.Min != nil {
			bad = append(bad, fmt.Sprint(*s.Min-1))
		}
		if s.Max != nil {
			bad = append(bad, fmt.Sprint(*s.Max+1))
		}
	case s.Format == "uuid":
		bad = append(bad, "7", strings.Repeat("a", 36))
	case s.Format == "date-time":
		bad = append(bad, "yesterday", "2026-02-30T00:00:00Z")
	case len(s.Enum) > 0:
		bad = append(bad, "elsewhere")
	}
	if s.MaxLength != nil {
		bad = append(bad, strings.Repeat("a", int(*s.MaxLength)+1))
	}
	return bad
}

// wrongBodies are bodies that are no bodies, and those that the schema does not
// allow.
func wrongBodies(op operation) (all []wrong) {
	whole := func(what, body string, want ...int) {
		all = append(all, wrong{what, func(s *sent) { s.body = []byte(body) }, want})
	}
	content := op.RequestBody.Value.Content
	all = append(all,
		wrong{"as text", func(s *sent) {
			s.header.Set("Content-Type", "text/plain")
			if len(s.body) == 0 {
				s.body = []byte("{}")
			}
		}, []int{415}})
	whole("too large", `{"a": "`+strings.Repeat("x", tooLarge)+`"}`, 413)
	media := content["application/json"]
	if media == nil {
		whole("without a line", "", 400)
		return all // lines stand or fall alone
	}
	asJSON := func(what string, body string, want ...int) {
		all = append(all, wrong{what, func(s *sent) { s.body = []byte(body); s.header.Set("Content-Type", "application/json") }, want})
	}
	asJSON("with a body that breaks off", `{"a`, 400, 422)
	asJSON("with two bodies", `{} {}`, 400, 422)
	asJSON("with bytes that are no text", "{\"\xff\": 1}", 400, 422)
	asJSON("with a body too deep", strings.Repeat("[", 1000)+strings.Repeat("]", 1000), 400, 422)
	asJSON("with a list for a body", `[]`, 422, 400)
	asJSON("with null for a body", `null`, 422, 400)
	if op.RequestBody.Value.Required {
		asJSON("without a body", ``, 400, 422, 415)
	}
	schema := media.Schema.Value
	field := func(what string, change func(map[string]any)) {
		all = append(all, wrong{what, func(s *sent) {
			body := map[string]any{}
			// A body that was not JSON, or none, is begun anew.
			_ = json.Unmarshal(s.body, &body)
			change(body)
			s.body, _ = json.Marshal(body)
			s.header.Set("Content-Type", "application/json")
		}, []int{422}})
	}
	for _, name := range schema.Required {
		field("without "+name, func(body map[string]any) { delete(body, name) })
	}
	if schema.AdditionalProperties.Has != nil && !*schema.AdditionalProperties.Has {
		field("with a field that there is not", func(body map[string]any) { body["colour"] = "red" })
	}
	for _, name := range slices.Sorted(maps.Keys(schema.Properties)) {
		for _, bad := range badValues(schema.Properties[name].Value) {
			field(fmt.Sprintf("%s is %.40v", name, bad), func(body map[string]any) { body[name] = bad })
		}
	}
	return all
}

// badValues are values of a field that its schema does not allow.
func badValues(s *openapi3.Schema) (bad []any) {
	if len(s.OneOf) > 0 {
		return []any{7}
	}
	if s.Type.Includes("string") || s.Type.Includes("boolean") || s.Type.Includes("integer") {
		bad = append(bad, map[string]any{"$ne": ""}, []any{})
	}
	switch {
	case s.Type.Includes("string"):
		bad = append(bad, 7)
		for _, text := range badTexts(s) {
			bad = append(bad, text)
		}
		if s.MinLength > 0 {
			bad = append(bad, "")
		}
		if s.Format == "email" || s.Format == "date" {
			bad = append(bad, "neither")
		}
		if s.Pattern != "" {
			bad = append(bad, "Not, of course!")
		}
	case s.Type.Includes("integer"):
		bad = append(bad, "7", 1.5)
		if s.Min != nil {
			bad = append(bad, *s.Min-1)
		}
		if s.Max != nil {
			bad = append(bad, *s.Max+1)
		}
	case s.Type.Includes("boolean"):
		bad = append(bad, "true", 1)
	case s.Type.Includes("array"):
		bad = append(bad, "many", map[string]any{})
		if s.MaxItems != nil {
			one := any("x")
			if s.Items.Value.Format == "uuid" {
				one = uuid.NewString()
			}
			bad = append(bad, slices.Repeat([]any{one}, int(*s.MaxItems)+1))
		}
		for _, item := range badValues(s.Items.Value) {
			bad = append(bad, []any{item})
		}
	case s.Type.Includes("object"):
		bad = append(bad, "many", []any{})
		for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
			for _, inner := range badValues(s.Properties[name].Value) {
				bad = append(bad, map[string]any{name: inner})
			}
		}
		if s.AdditionalProperties.Has != nil && !*s.AdditionalProperties.Has {
			bad = append(bad, map[string]any{"$where": "1"})
		}
	}
	return bad
}

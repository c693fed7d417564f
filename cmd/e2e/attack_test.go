package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
)

// TestAttacksAtTheFrontDoorFail goes through every operation of the document, with
// accounts, flags, rules and backtests that are there. A new route is attacked like
// the others; one with an id in it that needs no role has to be spoken of in owned.
func TestAttacksAtTheFrontDoorFail(t *testing.T) {
	bothWays(t, func(t *testing.T, where backend.Where) {
		a := newAskerOf(t, where)
		p := a.askValid()
		attack := func(name string, test func(cast)) {
			t.Run(name, func(t *testing.T) {
				a.t = t
				test(p)
			})
		}
		attack("another's objects by id", a.reachForOthers)
		attack("fields that are not the client's", a.assignTooMuch)
		attack("operators of the database", a.operate)
		attack("roles that a client claims", a.claimRoles)
		attack("caches that keep what is not everybody's", a.poison)
		a.t = t
	})
}

// room is what is under a path, and who may go in.
type room struct {
	prefix string
	may    func(p cast) []*client
}

// rooms are by the document's words.
var rooms = []room{
	{"/v1/admin/", func(p cast) []*client { return []*client{p.admin} }},
	{"/v1/backtests", func(p cast) []*client { return []*client{p.admin, p.analyst, p.mod} }},
	{"/v1/logs", func(p cast) []*client { return []*client{p.admin, p.analyst} }},
	{"/v1/moderation/", func(p cast) []*client { return []*client{p.admin, p.mod} }},
}

// owned are the operations with an id that need no role, and what somebody is told
// who is not its owner.
var owned = map[string]int{
	"getProfile": http.StatusOK, // which shows what every member may see
	"endSession": http.StatusNotFound,
}

// private are fields of an account that are its owner's alone.
var private = []string{"email", "birth_date", "roles", "status", "joined_at"}

// reachForOthers asks, as everybody whom the role or the owner is not, for what has
// an id; whether it is there must not show.
func (a *asker) reachForOthers(p cast) {
	everybody := []*client{p.anna, p.bert, p.mod, p.analyst, p.service}
	for _, op := range a.operations() {
		good, ok := a.accepted[op.OperationID]
		if op.Responses.Status(http.StatusForbidden) == nil {
			if strings.Contains(op.path, "{id}") && owned[op.OperationID] == 0 {
				a.t.Errorf("%s %s has an id and needs no role: say in owned what others are told", op.method, op.path)
			}
			continue
		}
		at := slices.IndexFunc(rooms, func(r room) bool { return strings.HasPrefix(op.path, r.prefix) })
		if at < 0 || !ok {
			a.t.Errorf("%s %s needs a role: say in rooms which (it was accepted before: %t)", op.method, op.path, ok)
			continue
		}
		for _, who := range everybody {
			if slices.Contains(rooms[at].may(p), who) {
				continue
			}
			s := good
			s.header = good.header.Clone()
			s.header.Set("Authorization", "Bearer "+who.token)
			there, first := a.send(s), string(a.last)
			s.path = strings.ReplaceAll(s.path, s.params["id"], uuid.NewString())
			if s.params["id"] == "" {
				s.path = good.path
			}
			notThere, second := a.send(s), string(a.last)
			if there != http.StatusForbidden || notThere != http.StatusForbidden || first != second {
				a.t.Errorf("%s %s as %s: %d %s, and where there is no such thing: %d %s", op.method, good.path, who.id, there, first, notThere, second)
			}
		}
	}
	// Another's profile is there, what is private of it is not.
	var profile map[string]any
	if err := json.Unmarshal(p.bert.get("/v1/users/"+p.anna.id.String()).is(http.StatusOK).body, &profile); err != nil {
		a.t.Fatal(err)
	}
	for _, field := range private {
		if _, shown := profile[field]; shown {
			a.t.Errorf("another's profile shows %s: %v", field, profile)
		}
	}
	// An ID in a body: another's flag is as good as none.
	flags := p.mod.list("/v1/moderation/flags?user=" + p.bert.id.String())
	appeal := func(flag any) string {
		return string(p.anna.post("/v1/me/appeals", object{"flag": flag, "text": "it is mine"}).is(http.StatusNotFound).body)
	}
	if real, none := appeal(flags.Items[0]["id"]), appeal(uuid.New()); real != none {
		a.t.Errorf("an appeal against another's flag is told %s, against none %s", real, none)
	}
	// And nobody acts in another's name but a service.
	p.anna.post("/v1/activities", object{"type": "visit", "target": p.mod.id, "actor": p.bert.id}).is(http.StatusUnprocessableEntity)
	if l := p.anna.batch([]object{{"type": "visit", "target": p.mod.id, "actor": p.bert.id}}); l[0]["status"] != 422.0 {
		a.t.Errorf("a line in another's name: %v", l)
	}
}

// notTheirs are fields that a client might like to set.
var notTheirs = map[string]any{
	"_id": "1", "id": uuid.NewString(), "role": "admin", "roles": []string{"admin"}, "is_admin": true, "admin": true,
	"actor": uuid.NewString(), "user": uuid.NewString(), "user_id": uuid.NewString(), "subject": uuid.NewString(), "by": uuid.NewString(),
	"state": "dismissed", "status": "active", "score": 0, "version": 1, "joined_at": "2001-01-01T00:00:00Z", "recorded_at": "2001-01-01T00:00:00Z",
	"partition": 0, "sequence": 1, "trusted": true, "email_verified": true, "password_hash": "x", "__proto__": map[string]any{"admin": true},
	"constructor": map[string]any{}, "Password": "x", "ROLES": []string{"admin"},
}

// assignTooMuch sends what was accepted before with one field too many.
func (a *asker) assignTooMuch(p cast) {
	for _, op := range a.operations() {
		schema := bodySchema(op)
		if schema == nil {
			continue
		}
		if schema.AdditionalProperties.Has == nil || *schema.AdditionalProperties.Has {
			a.t.Errorf("%s takes fields that the document does not name", op.OperationID)
		}
		for _, field := range slices.Sorted(maps.Keys(notTheirs)) {
			if schema.Properties[field] != nil {
				continue
			}
			a.refuses(op, p, field, notTheirs[field])
		}
	}
	before := p.bert.get("/v1/me").is(http.StatusOK)
	p.bert.send(http.MethodPatch, "/v1/me", "application/json", strings.NewReader(`{"roles": ["admin"]}`), "If-Match", before.header.Get("ETag")).is(http.StatusUnprocessableEntity)
	if after := p.bert.get("/v1/me").is(http.StatusOK); string(after.body) != string(before.body) {
		a.t.Errorf("the account was %s and is %s", before.body, after.body)
	}
}

// bodySchema is that of an operation's JSON body, nil if there is none.
func bodySchema(op operation) *openapi3.Schema {
	if op.RequestBody == nil || op.RequestBody.Value.Content["application/json"] == nil {
		return nil
	}
	return op.RequestBody.Value.Content["application/json"].Schema.Value
}

// refuses sends a body that was accepted before with another value for a field, and
// fails the test unless it is refused for that.
func (a *asker) refuses(op operation, p cast, field string, value any) {
	a.t.Helper()
	s, ok := a.accepted[op.OperationID]
	if !ok {
		return // another test tells
	}
	body := map[string]any{}
	_ = json.Unmarshal(s.body, &body) // one that was YAML is begun anew
	body[field] = value
	s.body, _ = json.Marshal(body)
	s.header = s.header.Clone()
	s.header.Set("Content-Type", "application/json")
	if op.Security == nil {
		s.header.Set("Authorization", "Bearer "+p.all.token)
	}
	status := a.send(s)
	if op.OperationID == "validateRules" && strings.HasPrefix(string(a.last), `{"valid":false`) {
		return // which is how it says no
	}
	if status != http.StatusUnprocessableEntity {
		a.t.Errorf("%s with %s: %v: %d %s", op.OperationID, field, value, status, a.last)
	}
}

// operators are what MongoDB would take for an order, not for a value.
var operators = []any{
	map[string]any{"$gt": ""}, map[string]any{"$ne": nil}, map[string]any{"$regex": ".*"}, map[string]any{"$where": "sleep(10000)"},
	map[string]any{"$in": []string{"admin"}}, []any{map[string]any{"$gt": ""}}, map[string]any{"$set": map[string]any{"roles": []string{"admin"}}},
}

// operate sends operators in place of values: in bodies, in queries, in paths.
func (a *asker) operate(p cast) {
	for _, op := range a.operations() {
		if schema := bodySchema(op); schema != nil {
			for _, field := range slices.Sorted(maps.Keys(schema.Properties)) {
				for _, value := range operators {
					if open := schema.Properties[field].Value; len(open.OneOf) > 0 {
						continue // a rule, whose fields are tried below
					}
					a.refuses(op, p, field, value)
				}
			}
			for _, operator := range []string{"$where", "$or", "$expr"} {
				a.refuses(op, p, operator, []any{map[string]any{}})
			}
		}
		good, ok := a.accepted[op.OperationID]
		if !ok {
			continue
		}
		for _, ref := range op.Parameters {
			param := ref.Value
			s := good
			s.header = good.header.Clone()
			if op.Security == nil {
				s.header.Set("Authorization", "Bearer "+p.all.token)
			}
			switch param.In {
			case openapi3.ParameterInPath:
				for _, text := range []string{`%7B%22$gt%22:%22%22%7D`, "$where", "[$ne]"} {
					s.path = fill(strings.Replace(op.path, "{"+param.Name+"}", text, 1), s.params)
					a.asNobody(s, 404, 422)
				}
			case openapi3.ParameterInQuery:
				for _, text := range []string{`{"$gt":""}`, `{"$where":"1"}`, "$ne"} {
					setQuery(param.Name, text)(&s)
					a.findsNothing(s)
				}
				// As some frameworks would make an object of it.
				s.query = url.QueryEscape(param.Name+"[$ne]") + "=x&limit=1"
				if status := a.send(s); status >= 500 {
					a.t.Errorf("%s?%s: %d %s", s.path, s.query, status, a.last)
				}
			}
		}
	}
	for _, rule := range []any{map[string]any{"$gt": ""}, map[string]any{"id": map[string]any{"$gt": ""}}} {
		p.analyst.post("/v1/backtests", object{"rule": rule}).is(http.StatusUnprocessableEntity)
		p.analyst.post("/v1/backtests", object{"rules": []any{rule}}).is(http.StatusUnprocessableEntity)
	}
	// Where text is asked for, an operator is text.
	const text = `{"$set": {"roles": ["admin"]}}`
	me := p.bert.get("/v1/me").is(http.StatusOK)
	body, _ := json.Marshal(object{"about": text})
	p.bert.send(http.MethodPatch, "/v1/me", "application/json", strings.NewReader(string(body)), "If-Match", me.header.Get("ETag")).is(http.StatusOK)
	var got struct {
		About string
		Roles []string
	}
	if p.bert.get("/v1/me").is(http.StatusOK).into(&got); got.About != text || len(got.Roles) != 0 {
		a.t.Errorf("the account is now %+v", got)
	}
}

// asNobody sends what may be no place of the document's, and wants one of the
// statuses.
func (a *asker) asNobody(s sent, want ...int) {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.ctx, s.method, a.h.url+s.path, strings.NewReader(string(s.body)))
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header = s.header
	res, err := ask(r, http.DefaultClient.Do)
	if err != nil {
		a.t.Fatal(err)
	}
	defer res.Body.Close()
	if !slices.Contains(want, res.StatusCode) {
		a.t.Errorf("%s %s: %s", s.method, s.path, res.Status)
	}
}

// findsNothing wants a query to be refused, or taken for a value that nothing has.
func (a *asker) findsNothing(s sent) {
	a.t.Helper()
	status := a.send(s)
	var found struct{ Items []any }
	_ = json.Unmarshal(a.last, &found) // a stream of events has no items, and no bytes
	nothing := status == http.StatusOK && len(found.Items) == 0 && (strings.Contains(string(a.last), `"items":[]`) || len(a.last) == 0)
	if status != http.StatusUnprocessableEntity && !nothing && !(status == http.StatusOK && strings.HasPrefix(s.query, "why=")) {
		a.t.Errorf("%s %s?%s: %d %.300s", s.method, s.path, s.query, status, a.last)
	}
}

// claimRoles says in every way that a member is an admin.
func (a *asker) claimRoles(p cast) {
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			a.t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	parts := strings.Split(p.bert.token, ".")
	var claims map[string]any
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(raw, &claims)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	claims["roles"] = []string{"admin", "moderator", "analyst"}
	forged := map[string]string{
		"another's claims under the same signature": parts[0] + "." + part(claims) + "." + parts[2],
		"no algorithm": part(map[string]any{"alg": "none", "typ": "JWT"}) + "." + part(claims) + ".",
		"no signature": parts[0] + "." + part(claims) + ".",
	}
	for _, op := range a.operations() {
		good, ok := a.accepted[op.OperationID]
		if !ok || op.Responses.Status(http.StatusForbidden) == nil {
			continue
		}
		for _, claim := range []string{"X-Roles", "X-Role", "X-User-Roles", "X-User-Id", "X-User", "X-Forwarded-User", "X-Auth-Request-User", "X-Remote-User", "Remote-User", "Meet5-Roles", "Meet5-Subject", "Cookie"} {
			s := good
			s.header = good.header.Clone()
			s.header.Set("Authorization", "Bearer "+p.bert.token)
			s.header.Set(claim, map[bool]string{true: "roles=admin", false: "admin"}[claim == "Cookie"])
			setQuery("roles", "admin")(&s)
			if status := a.send(s); status != http.StatusForbidden {
				a.t.Errorf("%s with %s: %d %s", op.OperationID, claim, status, a.last)
			}
		}
		for what, token := range forged {
			s := good
			s.header = good.header.Clone()
			s.header.Set("Authorization", "Bearer "+token)
			if status := a.send(s); status != http.StatusUnauthorized {
				a.t.Errorf("%s with %s: %d %s", op.OperationID, what, status, a.last)
			}
		}
	}
	var me struct{ Roles []string }
	if p.bert.get("/v1/me").is(http.StatusOK).into(&me); len(me.Roles) != 0 {
		a.t.Errorf("bert has roles: %v", me.Roles)
	}
	// No way round the door to what services say to each other.
	for _, path := range []string{"/internal/users/cards", "/internal/users/" + p.anna.id.String(), "/v1/../internal/users/cards", "//internal/users/cards", "/%69nternal/users/cards"} {
		a.asNobody(sent{operation: operation{method: http.MethodPost}, path: path, header: http.Header{"Authorization": {"Bearer " + p.bert.token}}}, http.StatusNotFound)
	}
}

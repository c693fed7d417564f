package gateway

import (
	"net/http"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

const (
	// defaultBody is the largest body, in bytes, of a route that says nothing else.
	defaultBody = web.DefaultBodyLimit
	// batchBody is the 8 MiB of a batch, and a little so that it is the activity
	// service that words the refusal of one that is slightly too large.
	batchBody = 8<<20 + 1<<10
	// rulesBody is as large as a text of rules may be.
	rulesBody = 256 << 10
)

// access is who may use a route.
type access string

const (
	anyone    access = ""       // no token is looked at
	member    access = "member" // whoever has a good token
	moderator access = token.RoleModerator
	analyst   access = token.RoleAnalyst
	admin     access = token.RoleAdmin
	// tester is whoever may try rules.
	tester access = token.RoleModerator + " or " + token.RoleAnalyst
)

// admits says whether a caller with a good token may use such a route.
func (a access) admits(caller token.Claims) bool {
	switch a {
	case anyone, member:
		return true
	case tester:
		return caller.HasRole(token.RoleModerator) || caller.HasRole(token.RoleAnalyst)
	}
	return caller.HasRole(string(a))
}

// route is one line of the routing table.
type route struct {
	method  string
	path    string // {name} stands for one segment
	to      http.Handler
	who     access
	class   class
	body    int64 // limit in bytes; 0 means defaultBody
	repeat  repeatable
	stream  bool // the answer may go on for hours
	public  bool // the answer is everybody's and may be kept
	inPlace bool // to is a service in this process, which measures by itself
}

// own is a handler of the gateway itself.
type own struct{ http.Handler }

// table is everything that the gateway serves, sorted by path and method.
func (g *Gateway) table(p pages) []route {
	up := g.up
	lists, operations := own{decorator{g}}, own{http.HandlerFunc(g.byService)}
	return []route{
		{method: "GET", path: "/.well-known/jwks.json", to: own{tagged(up.User)}, who: anyone, class: read, public: true},
		{method: "GET", path: "/.well-known/openid-configuration", to: own{tagged(up.User)}, who: anyone, class: read, public: true},
		{method: "GET", path: "/docs", to: own{p.docs}, who: anyone, class: read, public: true},
		{method: "GET", path: "/livez", to: own{p.live}, who: anyone, class: free},
		{method: "GET", path: "/metrics", to: own{p.metrics}, who: anyone, class: free},
		{method: "GET", path: "/openapi.json", to: own{p.openapi}, who: anyone, class: read, public: true},
		{method: "GET", path: "/readyz", to: own{p.ready}, who: anyone, class: free},
		{method: "POST", path: "/v1/activities", to: up.Activity, who: member, class: write, repeat: byID},
		{method: "POST", path: "/v1/activities/batch", to: up.Activity, who: member, class: batch, body: batchBody},
		{method: "GET", path: "/v1/admin/keys", to: up.User, who: admin, class: moderation},
		{method: "POST", path: "/v1/admin/keys/rotate", to: up.User, who: admin, class: moderation},
		{method: "GET", path: "/v1/admin/subscriptions", to: own{http.HandlerFunc(g.serveSubscriptions)}, who: admin, class: moderation},
		{method: "POST", path: "/v1/admin/users/{id}/roles", to: up.User, who: admin, class: moderation},
		{method: "GET", path: "/v1/admin/{service}/parked", to: operations, who: admin, class: moderation},
		{method: "GET", path: "/v1/admin/{service}/parked/{id}", to: operations, who: admin, class: moderation},
		{method: "POST", path: "/v1/admin/{service}/parked/{id}/drop", to: operations, who: admin, class: moderation},
		{method: "POST", path: "/v1/admin/{service}/parked/{id}/retry", to: operations, who: admin, class: moderation},
		{method: "GET", path: "/v1/admin/{service}/subscriptions", to: operations, who: admin, class: moderation},
		{method: "GET", path: "/v1/backtests", to: up.Fraud, who: tester, class: moderation},
		{method: "POST", path: "/v1/backtests", to: up.Fraud, who: tester, class: moderation, body: rulesBody},
		{method: "DELETE", path: "/v1/backtests/{id}", to: up.Fraud, who: tester, class: moderation},
		{method: "GET", path: "/v1/backtests/{id}", to: up.Fraud, who: tester, class: moderation},
		{method: "GET", path: "/v1/logs", to: up.Projections, who: analyst, class: read},
		{method: "GET", path: "/v1/logs/{log}/events", to: up.Projections, who: analyst, class: read, stream: true},
		{method: "DELETE", path: "/v1/me", to: up.User, who: member, class: write},
		{method: "GET", path: "/v1/me", to: up.User, who: member, class: read},
		{method: "PATCH", path: "/v1/me", to: up.User, who: member, class: write},
		{method: "GET", path: "/v1/me/appeals", to: up.Fraud, who: member, class: read},
		{method: "POST", path: "/v1/me/appeals", to: up.Fraud, who: member, class: write},
		{method: "GET", path: "/v1/me/events", to: own{http.HandlerFunc(g.serveEvents)}, who: member, class: read, stream: true},
		{method: "GET", path: "/v1/me/export", to: up.User, who: member, class: batch, stream: true},
		{method: "GET", path: "/v1/me/home", to: own{http.HandlerFunc(g.serveHome)}, who: member, class: read},
		{method: "GET", path: "/v1/me/likes/given", to: lists, who: member, class: read},
		{method: "GET", path: "/v1/me/likes/received", to: lists, who: member, class: read},
		{method: "GET", path: "/v1/me/matches", to: lists, who: member, class: read},
		{method: "POST", path: "/v1/me/password", to: up.User, who: member, class: auth},
		{method: "GET", path: "/v1/me/sessions", to: up.User, who: member, class: read},
		{method: "DELETE", path: "/v1/me/sessions/{id}", to: up.User, who: member, class: write},
		{method: "GET", path: "/v1/me/stats", to: up.Projections, who: member, class: read},
		{method: "GET", path: "/v1/me/visitors", to: lists, who: member, class: read},
		{method: "GET", path: "/v1/me/visits", to: lists, who: member, class: read},
		{method: "GET", path: "/v1/moderation/bulk", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/bulk", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/bulk/{id}", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/bulk/{id}/undo", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/flags", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/flags/next", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/flags/{id}", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/flags/{id}/assignee", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/flags/{id}/decision", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/flags/{id}/notes", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/rules", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/rules/schema.json", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/rules/validate", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/rules/{id}", to: up.Fraud, who: moderator, class: moderation},
		{method: "PUT", path: "/v1/moderation/rules/{id}", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/rules/{id}/diff", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/rules/{id}/hits", to: up.Fraud, who: moderator, class: moderation},
		{method: "POST", path: "/v1/moderation/rules/{id}/mode", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: "/v1/moderation/rules/{id}/versions", to: up.Fraud, who: moderator, class: moderation},
		{method: "GET", path: casePath + "{id}", to: own{http.HandlerFunc(g.serveCase)}, who: moderator, class: moderation},
		{method: "DELETE", path: "/v1/sessions", to: up.User, who: member, class: write},
		{method: "POST", path: "/v1/sessions", to: up.User, who: anyone, class: auth},
		{method: "DELETE", path: "/v1/sessions/current", to: up.User, who: member, class: write},
		{method: "POST", path: "/v1/sessions/oidc", to: up.User, who: anyone, class: auth},
		{method: "POST", path: "/v1/sessions/refresh", to: up.User, who: anyone, class: auth},
		{method: "POST", path: "/v1/users", to: up.User, who: anyone, class: auth},
		{method: "GET", path: "/v1/users/{id}", to: up.User, who: member, class: read},
	}
}

package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/cmd/backend"
	"github.com/meet5/backend/events"
	gate "github.com/meet5/backend/gateway/client"
)

const contractRule = "contract-likes"

// asker asks the house through the generated client, every answer of which is
// checked.
type asker struct {
	*contract
	*gate.ClientWithResponses
	h       *house
	ctx     context.Context
	outside *signer // nil if the house has none
}

// newAskerOf asks a house that was told its issuer, and that knows an outside
// provider.
func newAskerOf(t *testing.T, where backend.Where) *asker {
	t.Helper()
	outside := newSigner(t)
	a := newAsker(openWith(t, backend.Config{Where: where, Issuer: "https://id.example.org", OutsideIssuer: outside.URL, OutsideClient: outsideApp}))
	a.outside = outside
	return a
}

func newAsker(h *house) *asker {
	h.t.Helper()
	c := readContract(h)
	generated, err := gate.NewClientWithResponses(h.url, gate.WithHTTPClient(c))
	if err != nil {
		h.t.Fatal(err)
	}
	return &asker{contract: c, ClientWithResponses: generated, h: h, ctx: h.t.Context()}
}

// answered is any answer of the generated client.
type answered interface{ StatusCode() int }

// want fails the test unless the call went well and its answer has that status.
func want[A answered](a *asker, status int) func(A, error) A {
	a.t.Helper()
	return func(got A, err error) A {
		a.t.Helper()
		if err != nil {
			a.t.Fatal(err)
		}
		if got.StatusCode() != status {
			a.t.Fatalf("status %d, want %d: %s", got.StatusCode(), status, a.last)
		}
		return got
	}
}

func as(c *client) gate.RequestEditorFn { return gate.Bearer(c.token) }

// accepting asks for another media type than the usual one.
func accepting(media string) gate.RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set("Accept", media)
		return nil
	}
}

// unless asks for what has changed only since an answer came.
func unless(res *http.Response) gate.RequestEditorFn {
	return func(_ context.Context, r *http.Request) error {
		r.Header.Set("If-None-Match", res.Header.Get("ETag"))
		return nil
	}
}

func ptr[T any](v T) *T { return &v }

// cast are those who act.
type cast struct {
	anna, bert, mod, analyst, admin, service *client
	all                                      *client // has every role but service
	crowd                                    []uuid.UUID
}

// askValid asks for every operation of the document in a way that it accepts, and
// for every 2xx status that it names.
func (a *asker) askValid() cast {
	h := a.h
	p := cast{
		anna: h.register("anna"), bert: h.register("bert"), mod: h.with("mod", "moderator"), analyst: h.with("analyst", "analyst"),
		admin: h.as("admin"), service: h.with("traffic", "service"),
		all:   h.with("all", "moderator", "analyst", "admin"),
		crowd: h.crowd(events.ActivityPartitions+1, time.Now().UTC().Add(-time.Hour)),
	}
	a.askPages()
	a.askAccounts(p)
	a.askSessions(p)
	a.askActivities(p)
	a.askRules(p)
	a.askFlags(p)
	a.askErased(p)
	a.askBacktests(p)
	a.askParked(p)
	a.askLogs(p)
	return p
}

func (a *asker) askPages() {
	docs := want[*gate.GetDocsResponse](a, 200)(a.GetDocsWithResponse(a.ctx))
	want[*gate.GetDocsResponse](a, 304)(a.GetDocsWithResponse(a.ctx, unless(docs.HTTPResponse)))
	keys := want[*gate.GetKeysResponse](a, 200)(a.GetKeysWithResponse(a.ctx))
	want[*gate.GetKeysResponse](a, 304)(a.GetKeysWithResponse(a.ctx, unless(keys.HTTPResponse)))
	document := want[*gate.GetOpenAPIResponse](a, 200)(a.GetOpenAPIWithResponse(a.ctx))
	want[*gate.GetOpenAPIResponse](a, 304)(a.GetOpenAPIWithResponse(a.ctx, unless(document.HTTPResponse)))
	want[*gate.GetLiveResponse](a, 200)(a.GetLiveWithResponse(a.ctx))
	want[*gate.GetMetricsResponse](a, 200)(a.GetMetricsWithResponse(a.ctx))
	want[*gate.GetReadyResponse](a, 200)(a.GetReadyWithResponse(a.ctx))
}

func (a *asker) askAccounts(p cast) {
	// fay comes and goes.
	born := gate.Registration{}
	if err := json.Unmarshal([]byte(`{"handle": "fay", "email": "fay@example.org", "password": "`+password+`", "display_name": "Fay", "birth_date": "1990-01-31", "city": "Bonn", "about": null}`), &born); err != nil {
		a.t.Fatal(err)
	}
	fay := want[*gate.RegisterResponse](a, 201)(a.RegisterWithResponse(a.ctx, born)).JSON201
	session := want[*gate.SignInResponse](a, 201)(a.SignInWithResponse(a.ctx, gate.Credentials{Login: "fay", Password: password})).JSON201
	session = want[*gate.RefreshResponse](a, 201)(a.RefreshWithResponse(a.ctx, gate.Refresh{RefreshToken: session.RefreshToken})).JSON201
	token := gate.Bearer(session.AccessToken)
	me := want[*gate.GetMeResponse](a, 200)(a.GetMeWithResponse(a.ctx, token))
	me2 := want[*gate.ChangeMeResponse](a, 200)(a.ChangeMeWithResponse(a.ctx, &gate.ChangeMeParams{IfMatch: me.Headers200.ETag}, gate.ProfileChange{City: ptr("Mainz")}, token))
	want[*gate.ChangeMeResponse](a, 200)(a.ChangeMeWithApplicationMergePatchPlusJSONBodyWithResponse(a.ctx,
		&gate.ChangeMeParams{IfMatch: me2.Headers200.ETag}, gate.ProfileChange{About: ptr("Likes hills.")}, token))
	want[*gate.ChangeMeResponse](a, 412)(a.ChangeMeWithResponse(a.ctx, &gate.ChangeMeParams{IfMatch: me.Headers200.ETag}, gate.ProfileChange{City: ptr("Ulm")}, token))
	want[*gate.RegisterResponse](a, 409)(a.RegisterWithResponse(a.ctx, born))
	want[*gate.SignInResponse](a, 401)(a.SignInWithResponse(a.ctx, gate.Credentials{Login: "fay", Password: "wrong" + password}))
	want[*gate.GetProfileResponse](a, 200)(a.GetProfileWithResponse(a.ctx, fay.Id, as(p.anna)))
	want[*gate.SetRolesResponse](a, 200)(a.SetRolesWithResponse(a.ctx, fay.Id, gate.Roles{Roles: []gate.Role{gate.RoleAnalyst}}, as(p.admin)))
	want[*gate.SignOutResponse](a, 204)(a.SignOutWithResponse(a.ctx, token))
	want[*gate.RefreshResponse](a, 401)(a.RefreshWithResponse(a.ctx, gate.Refresh{RefreshToken: session.RefreshToken}))
	want[*gate.EraseMeResponse](a, 204)(a.EraseMeWithResponse(a.ctx, nil, token))
	want[*gate.EraseMeResponse](a, 204)(a.EraseMeWithResponse(a.ctx, nil, token))
	want[*gate.ChangeMeResponse](a, 404)(a.ChangeMeWithResponse(a.ctx, &gate.ChangeMeParams{IfMatch: me2.Headers200.ETag}, gate.ProfileChange{City: ptr("Ulm")}, token))
	want[*gate.GetMeResponse](a, 404)(a.GetMeWithResponse(a.ctx, token))
	want[*gate.ExportMeResponse](a, 404)(a.ExportMeWithResponse(a.ctx, token))
	want[*gate.GetHomeResponse](a, 404)(a.GetHomeWithResponse(a.ctx, token))
	want[*gate.GetProfileResponse](a, 404)(a.GetProfileWithResponse(a.ctx, fay.Id, as(p.anna)))
}

func (a *asker) askSessions(p cast) {
	gil := a.h.register("gil")
	a.h.as("gil")
	own := want[*gate.ListSessionsResponse](a, 200)(a.ListSessionsWithResponse(a.ctx, as(gil))).JSON200.Items
	other := own[slices.IndexFunc(own, func(s gate.OwnSession) bool { return !s.Current })].Id
	want[*gate.EndSessionResponse](a, 404)(a.EndSessionWithResponse(a.ctx, other, as(p.anna)))
	want[*gate.EndSessionResponse](a, 204)(a.EndSessionWithResponse(a.ctx, other, as(gil)))
	want[*gate.ChangePasswordResponse](a, 422)(a.ChangePasswordWithResponse(a.ctx, gate.PasswordChange{Current: "wrong" + password, New: "another" + password}, as(gil)))
	want[*gate.ChangePasswordResponse](a, 204)(a.ChangePasswordWithResponse(a.ctx, gate.PasswordChange{Current: password, New: "another" + password}, as(gil)))
	want[*gate.ExportMeResponse](a, 200)(a.ExportMeWithResponse(a.ctx, as(gil)))
	want[*gate.SignOutEverywhereResponse](a, 204)(a.SignOutEverywhereWithResponse(a.ctx, as(gil)))
	discovery := want[*gate.GetDiscoveryResponse](a, 200)(a.GetDiscoveryWithResponse(a.ctx))
	want[*gate.GetDiscoveryResponse](a, 304)(a.GetDiscoveryWithResponse(a.ctx, unless(discovery.HTTPResponse)))
	outside := gate.OutsideCredentials{IdToken: a.outside.idToken(), Profile: &gate.OutsideProfile{Handle: "gil", DisplayName: "Hal"}}
	outside.Profile.BirthDate.Time = time.Date(1990, 1, 31, 0, 0, 0, 0, time.UTC)
	want[*gate.SignInOutsideResponse](a, 409)(a.SignInOutsideWithResponse(a.ctx, outside))
	outside.IdToken, outside.Profile.Handle = a.outside.idToken(), "hal"
	hal := want[*gate.SignInOutsideResponse](a, 201)(a.SignInOutsideWithResponse(a.ctx, outside)).JSON201
	want[*gate.SignInOutsideResponse](a, 401)(a.SignInOutsideWithResponse(a.ctx, outside))
	want[*gate.ChangePasswordResponse](a, 409)(a.ChangePasswordWithResponse(a.ctx, gate.PasswordChange{Current: password, New: "another" + password}, gate.Bearer(hal.AccessToken)))
	want[*gate.RotateKeysResponse](a, 200)(a.RotateKeysWithResponse(a.ctx, gate.KeyRotation{}, as(p.admin)))
	want[*gate.ListKeysResponse](a, 200)(a.ListKeysWithResponse(a.ctx, as(p.admin)))
}

func (a *asker) askActivities(p cast) {
	visit := gate.NewActivity{Type: gate.ActivityTypeVisit, Target: p.anna.id, Id: ptr(uuid.New())}
	want[*gate.PostActivityResponse](a, 201)(a.PostActivityWithResponse(a.ctx, visit, as(p.bert)))
	want[*gate.PostActivityResponse](a, 200)(a.PostActivityWithResponse(a.ctx, visit, as(p.bert)))
	want[*gate.PostActivityResponse](a, 404)(a.PostActivityWithResponse(a.ctx, gate.NewActivity{Type: gate.ActivityTypeVisit, Target: uuid.New()}, as(p.bert)))
	taken := 0
	// More actors than partitions: two share one, and there an id is one event's.
	for _, actor := range p.crowd {
		got, err := a.PostActivityWithResponse(a.ctx, gate.NewActivity{Type: gate.ActivityTypeVisit, Actor: &actor, Target: p.anna.id, Id: ptr(p.anna.id)}, as(p.service))
		if err != nil {
			a.t.Fatal(err)
		}
		if got.StatusCode() == http.StatusConflict {
			taken++
		}
	}
	if taken < len(p.crowd)-events.ActivityPartitions {
		a.t.Errorf("%d of %d events with one id were refused", taken, len(p.crowd))
	}
	var lines strings.Builder
	say := func(kind string, actor, target uuid.UUID, more string) {
		fmt.Fprintf(&lines, `{"type": %q, "actor": %q, "target": %q%s}`+"\n", kind, actor, target, more)
	}
	for _, other := range p.crowd {
		say("visit", other, p.anna.id, "")
		say("visit", p.anna.id, other, "")
		say("like", other, p.anna.id, "")
		say("like", p.anna.id, other, "")
	}
	say("poke", p.bert.id, p.anna.id, "")
	say("visit", p.bert.id, p.bert.id, "")
	say("visit", p.bert.id, uuid.New(), "")
	say("visit", p.bert.id, p.anna.id, `, "colour": "red"`)
	fmt.Fprintln(&lines, `{"type": "visit"`)
	want[*gate.PostBatchResponse](a, 200)(a.PostBatchWithBodyWithResponse(a.ctx, ndjson, strings.NewReader(lines.String()), as(p.service)))
	one := ptr(1)
	eventually(a.t, "anna's matches", func() (any, bool) {
		l := want[*gate.ListMatchesResponse](a, 200)(a.ListMatchesWithResponse(a.ctx, &gate.ListMatchesParams{}, as(p.anna))).JSON200
		return l, len(l.Items) == len(p.crowd)
	})
	next := want[*gate.ListMatchesResponse](a, 200)(a.ListMatchesWithResponse(a.ctx, &gate.ListMatchesParams{Limit: one}, as(p.anna)))
	if next.Headers200.Link == nil || next.JSON200.Next == nil {
		a.t.Error("a first page does not say where the next one is")
	}
	want[*gate.ListMatchesResponse](a, 200)(a.ListMatchesWithResponse(a.ctx, &gate.ListMatchesParams{Limit: one, Cursor: next.JSON200.Next}, as(p.anna)))
	want[*gate.ListLikesGivenResponse](a, 200)(a.ListLikesGivenWithResponse(a.ctx, &gate.ListLikesGivenParams{Limit: one}, as(p.anna)))
	want[*gate.ListLikesReceivedResponse](a, 200)(a.ListLikesReceivedWithResponse(a.ctx, &gate.ListLikesReceivedParams{Limit: one}, as(p.anna)))
	want[*gate.ListVisitorsResponse](a, 200)(a.ListVisitorsWithResponse(a.ctx, &gate.ListVisitorsParams{Limit: one}, as(p.anna)))
	want[*gate.ListVisitsResponse](a, 200)(a.ListVisitsWithResponse(a.ctx, &gate.ListVisitsParams{Limit: one}, as(p.anna)))
	want[*gate.GetHomeResponse](a, 200)(a.GetHomeWithResponse(a.ctx, as(p.anna)))
	want[*gate.ExportMeResponse](a, 200)(a.ExportMeWithResponse(a.ctx, as(p.anna)))
	a.opened = func() { p.bert.act("visit", p.anna.id).is(http.StatusCreated) }
	want[*gate.FollowEventsResponse](a, 200)(a.FollowEventsWithResponse(a.ctx, &gate.FollowEventsParams{}, as(p.anna)))
	want[*gate.GetStatsResponse](a, 200)(a.GetStatsWithResponse(a.ctx, as(p.anna)))
}

func (a *asker) askRules(p cast) {
	text := strings.Replace(someLikes, "some-likes", contractRule, 1)
	why := &gate.PutRuleParams{Why: "the contract"}
	want[*gate.PutRuleResponse](a, 201)(a.PutRuleWithBodyWithResponse(a.ctx, contractRule, why, "application/yaml", strings.NewReader(text), as(p.mod)))
	const asJSON = `{"id": "` + contractRule + `", "title": "Liked many", "events": ["like"], "window": {"sliding": "1h"}, "aggregate": "count", "threshold": 4, "score": 10}`
	want[*gate.PutRuleResponse](a, 200)(a.PutRuleWithBodyWithResponse(a.ctx, contractRule, why, "application/json", strings.NewReader(asJSON), as(p.mod)))
	want[*gate.ValidateRulesResponse](a, 200)(a.ValidateRulesWithBodyWithResponse(a.ctx, "application/yaml", strings.NewReader("id: a\nthreshold: many\n"), as(p.mod)))
	want[*gate.ValidateRulesResponse](a, 200)(a.ValidateRulesWithBodyWithResponse(a.ctx, "application/json", strings.NewReader(asJSON), as(p.mod)))
	want[*gate.ValidateRulesResponse](a, 422)(a.ValidateRulesWithBodyWithResponse(a.ctx, "application/yaml", strings.NewReader(strings.Repeat("---\n"+text, 11)), as(p.mod)))
	want[*gate.SetRuleModeResponse](a, 409)(a.SetRuleModeWithResponse(a.ctx, contractRule, nil, gate.NewRuleMode{Mode: gate.RuleModeLive, Why: "at once"}, as(p.mod)))
	want[*gate.SetRuleModeResponse](a, 200)(a.SetRuleModeWithResponse(a.ctx, contractRule, nil, gate.NewRuleMode{Mode: gate.RuleModeLive, Why: "at once", Force: ptr(true)}, as(p.mod)))
	want[*gate.GetRuleResponse](a, 200)(a.GetRuleWithResponse(a.ctx, contractRule, as(p.mod), accepting("application/yaml")))
	eventually(a.t, "the rule runs", func() (any, bool) {
		r := want[*gate.GetRuleResponse](a, 200)(a.GetRuleWithResponse(a.ctx, contractRule, as(p.mod))).JSON200
		return r, r.Runs && !r.Warming
	})
	for _, r := range want[*gate.ListRulesResponse](a, 200)(a.ListRulesWithResponse(a.ctx, &gate.ListRulesParams{Limit: ptr(100)}, as(p.mod))).JSON200.Items {
		want[*gate.GetRuleResponse](a, 200)(a.GetRuleWithResponse(a.ctx, r.Id, as(p.mod)))
	}
	want[*gate.ListRulesResponse](a, 200)(a.ListRulesWithResponse(a.ctx, &gate.ListRulesParams{Limit: ptr(2)}, as(p.mod)))
	want[*gate.GetRuleSchemaResponse](a, 200)(a.GetRuleSchemaWithResponse(a.ctx, as(p.mod)))
	want[*gate.DiffRuleResponse](a, 200)(a.DiffRuleWithResponse(a.ctx, contractRule, &gate.DiffRuleParams{From: ptr("1"), To: ptr("2")}, as(p.mod)))
	want[*gate.ListRuleVersionsResponse](a, 200)(a.ListRuleVersionsWithResponse(a.ctx, contractRule, &gate.ListRuleVersionsParams{}, as(p.mod)))
	// Everybody of the crowd, and bert, likes enough to be flagged.
	var lines strings.Builder
	for _, actor := range append([]uuid.UUID{p.bert.id}, p.crowd...) {
		for _, target := range p.crowd {
			if actor != target {
				fmt.Fprintf(&lines, `{"type": "like", "actor": %q, "target": %q}`+"\n", actor, target)
			}
		}
	}
	want[*gate.PostBatchResponse](a, 200)(a.PostBatchWithBodyWithResponse(a.ctx, ndjson, strings.NewReader(lines.String()), as(p.service)))
	eventually(a.t, "hits", func() (any, bool) {
		l := want[*gate.ListRuleHitsResponse](a, 200)(a.ListRuleHitsWithResponse(a.ctx, contractRule, &gate.ListRuleHitsParams{Limit: ptr(100)}, as(p.mod))).JSON200
		return l, len(l.Items) > len(p.crowd)
	})
}

func (a *asker) askFlags(p cast) {
	rule := ptr(contractRule)
	list := func(q gate.ListFlagsParams) []gate.Flag {
		q.Rule = rule
		return want[*gate.ListFlagsResponse](a, 200)(a.ListFlagsWithResponse(a.ctx, &q, as(p.mod))).JSON200.Items
	}
	eventually(a.t, "flags", func() (any, bool) {
		l := list(gate.ListFlagsParams{})
		return l, len(l) > len(p.crowd)
	})
	list(gate.ListFlagsParams{State: ptr("open,expired"), MinScore: ptr(1), Assignee: ptr("none"), Sort: ptr(gate.ListFlagsParamsSort("-score")), Since: ptr(time.Now().Add(-time.Hour)), Until: ptr(time.Now().Add(time.Hour)), Limit: ptr(2)})
	of := func(user uuid.UUID) gate.Flag { return list(gate.ListFlagsParams{User: &user})[0] }
	berts := of(p.bert.id).Id
	flag := want[*gate.GetFlagResponse](a, 200)(a.GetFlagWithResponse(a.ctx, berts, as(p.mod)))
	want[*gate.AssignFlagResponse](a, 200)(a.AssignFlagWithResponse(a.ctx, berts, &gate.AssignFlagParams{IfMatch: &flag.Headers200.ETag}, gate.NewAssignee{Assignee: &p.mod.id}, as(p.mod)))
	want[*gate.NoteFlagResponse](a, 412)(a.NoteFlagWithResponse(a.ctx, berts, &gate.NoteFlagParams{IfMatch: &flag.Headers200.ETag}, gate.NewNote{Text: "late"}, as(p.mod)))
	want[*gate.NoteFlagResponse](a, 200)(a.NoteFlagWithResponse(a.ctx, berts, nil, gate.NewNote{Text: "looks like a script"}, as(p.mod)))
	want[*gate.DecideFlagResponse](a, 200)(a.DecideFlagWithResponse(a.ctx, berts, nil, gate.NewDecision{Decision: gate.NewDecisionDecisionConfirm, Note: ptr("a script")}, as(p.mod)))
	want[*gate.DecideFlagResponse](a, 409)(a.DecideFlagWithResponse(a.ctx, berts, nil, gate.NewDecision{Decision: gate.NewDecisionDecisionDismiss}, as(p.mod)))
	want[*gate.PostAppealResponse](a, 404)(a.PostAppealWithResponse(a.ctx, gate.NewAppeal{Flag: berts, Text: "it was bert"}, as(p.anna)))
	want[*gate.PostAppealResponse](a, 201)(a.PostAppealWithResponse(a.ctx, gate.NewAppeal{Flag: berts, Text: "it was I"}, as(p.bert)))
	want[*gate.ListAppealsResponse](a, 200)(a.ListAppealsWithResponse(a.ctx, &gate.ListAppealsParams{}, as(p.bert)))
	want[*gate.PostAppealResponse](a, 409)(a.PostAppealWithResponse(a.ctx, gate.NewAppeal{Flag: berts, Text: "it was I"}, as(p.bert)))
	want[*gate.DecideFlagResponse](a, 200)(a.DecideFlagWithResponse(a.ctx, berts, nil, gate.NewDecision{Decision: gate.NewDecisionDecisionUphold}, as(p.mod)))
	want[*gate.AssignFlagResponse](a, 409)(a.AssignFlagWithResponse(a.ctx, berts, nil, gate.NewAssignee{Assignee: &p.mod.id}, as(p.mod)))
	want[*gate.GetFlagResponse](a, 200)(a.GetFlagWithResponse(a.ctx, berts, as(p.mod)))

	want[*gate.TakeNextFlagResponse](a, 200)(a.TakeNextFlagWithResponse(a.ctx, gate.NextFlag{Rule: rule}, as(p.mod)))
	want[*gate.TakeNextFlagResponse](a, 204)(a.TakeNextFlagWithResponse(a.ctx, gate.NextFlag{Rule: ptr("no-such-rule")}, as(p.mod)))
	want[*gate.TakeNextFlagResponse](a, 200)(a.TakeNextFlagWithBodyWithResponse(a.ctx, "", http.NoBody, as(p.mod)))

	bulk := gate.NewBulk{Decision: gate.NewBulkDecisionDismiss, Filter: &gate.BulkFilter{Rule: rule, State: ptr("open")}, DryRun: ptr(true), Note: ptr("they are friends")}
	want[*gate.DecideInBulkResponse](a, 200)(a.DecideInBulkWithResponse(a.ctx, bulk, as(p.mod)))
	bulk.DryRun = nil
	done := want[*gate.DecideInBulkResponse](a, 200)(a.DecideInBulkWithResponse(a.ctx, bulk, as(p.mod))).JSON200
	bulk.Id, bulk.Decision = &done.Id, gate.NewBulkDecisionConfirm
	want[*gate.DecideInBulkResponse](a, 409)(a.DecideInBulkWithResponse(a.ctx, bulk, as(p.mod)))
	bulk.Id = nil
	bulk.Filter, bulk.Ids = nil, &[]uuid.UUID{of(p.crowd[0]).Id, uuid.New()}
	want[*gate.DecideInBulkResponse](a, 200)(a.DecideInBulkWithResponse(a.ctx, bulk, as(p.mod)))
	want[*gate.GetBulkResponse](a, 200)(a.GetBulkWithResponse(a.ctx, done.Id, as(p.mod)))
	want[*gate.UndoBulkResponse](a, 200)(a.UndoBulkWithResponse(a.ctx, done.Id, gate.NewUndo{Note: ptr("no, they are not")}, as(p.mod)))
	want[*gate.UndoBulkResponse](a, 409)(a.UndoBulkWithResponse(a.ctx, done.Id, gate.NewUndo{}, as(p.mod)))
	want[*gate.GetBulkResponse](a, 200)(a.GetBulkWithResponse(a.ctx, done.Id, as(p.mod)))
	want[*gate.ListBulkResponse](a, 200)(a.ListBulkWithResponse(a.ctx, &gate.ListBulkParams{Limit: ptr(1)}, as(p.mod)))
	for _, user := range []uuid.UUID{p.bert.id, p.crowd[0]} {
		want[*gate.GetCaseResponse](a, 200)(a.GetCaseWithResponse(a.ctx, user, as(p.mod)))
	}
}

// askErased asks for what was written about somebody, until they erase their account.
func (a *asker) askErased(p cast) {
	ivy := a.h.register("ivy")
	for _, target := range p.crowd[:4] {
		want[*gate.PostActivityResponse](a, 201)(a.PostActivityWithResponse(a.ctx, gate.NewActivity{Type: gate.ActivityTypeLike, Target: target}, as(ivy)))
	}
	var flag uuid.UUID
	eventually(a.t, "ivy's flag", func() (any, bool) {
		l := want[*gate.ListFlagsResponse](a, 200)(a.ListFlagsWithResponse(a.ctx, &gate.ListFlagsParams{User: &ivy.id}, as(p.mod))).JSON200.Items
		if len(l) > 0 {
			flag = l[0].Id
		}
		return l, len(l) > 0
	})
	want[*gate.NoteFlagResponse](a, 200)(a.NoteFlagWithResponse(a.ctx, flag, nil, gate.NewNote{Text: "ivy is green"}, as(p.mod)))
	bulk := gate.NewBulk{Decision: gate.NewBulkDecisionConfirm, Ids: &[]uuid.UUID{flag}, Note: ptr("green it is")}
	done := want[*gate.DecideInBulkResponse](a, 200)(a.DecideInBulkWithResponse(a.ctx, bulk, as(p.mod))).JSON200
	want[*gate.UndoBulkResponse](a, 200)(a.UndoBulkWithResponse(a.ctx, done.Id, gate.NewUndo{Note: ptr("or yellow")}, as(p.mod)))
	want[*gate.EraseMeResponse](a, 204)(a.EraseMeWithResponse(a.ctx, nil, as(ivy)))
	erased := func(e *bool) bool { return e != nil && *e }
	eventually(a.t, "what is written of ivy is erased", func() (any, bool) {
		f := want[*gate.GetFlagResponse](a, 200)(a.GetFlagWithResponse(a.ctx, flag, as(p.mod))).JSON200
		b := want[*gate.GetBulkResponse](a, 200)(a.GetBulkWithResponse(a.ctx, done.Id, as(p.mod))).JSON200
		l := want[*gate.ListBulkResponse](a, 200)(a.ListBulkWithResponse(a.ctx, &gate.ListBulkParams{Limit: ptr(1)}, as(p.mod))).JSON200.Items
		return f, erased(f.Notes[0].Erased) && erased(f.History[1].Erased) && erased(b.Erased) && erased(l[0].Erased) && erased(l[0].Undone.Erased)
	})
	want[*gate.NoteFlagResponse](a, 409)(a.NoteFlagWithResponse(a.ctx, flag, nil, gate.NewNote{Text: "ivy was green"}, as(p.mod)))
	want[*gate.DecideFlagResponse](a, 409)(a.DecideFlagWithResponse(a.ctx, flag, nil, gate.NewDecision{Decision: gate.NewDecisionDecisionConfirm, Note: ptr("green")}, as(p.mod)))
	want[*gate.DecideFlagResponse](a, 200)(a.DecideFlagWithResponse(a.ctx, flag, nil, gate.NewDecision{Decision: gate.NewDecisionDecisionConfirm}, as(p.mod)))
	want[*gate.PostAppealResponse](a, 404)(a.PostAppealWithResponse(a.ctx, gate.NewAppeal{Flag: flag, Text: "I was ivy"}, as(ivy)))
}

func (a *asker) askBacktests(p cast) {
	ask := gate.NewBacktest{Id: ptr(uuid.New()), Curve: ptr(true), Since: ptr(time.Now().Add(-time.Hour))}
	b := want[*gate.RequestBacktestResponse](a, 202)(a.RequestBacktestWithResponse(a.ctx, ask, as(p.analyst)))
	if l := b.Headers202.Location; l != "/v1/backtests/"+ask.Id.String() {
		a.t.Errorf("Location: %s", l)
	}
	want[*gate.RequestBacktestResponse](a, 200)(a.RequestBacktestWithResponse(a.ctx, ask, as(p.analyst)))
	done := func(id uuid.UUID) {
		a.t.Helper()
		eventually(a.t, "the backtest", func() (any, bool) {
			b := want[*gate.GetBacktestResponse](a, 200)(a.GetBacktestWithResponse(a.ctx, id, as(p.mod))).JSON200
			return b, b.State == "done"
		})
	}
	done(*ask.Id)
	want[*gate.RequestBacktestResponse](a, 409)(a.RequestBacktestWithResponse(a.ctx, gate.NewBacktest{Id: ask.Id}, as(p.analyst)))
	text := strings.Replace(someLikes, "some-likes", contractRule, 1)
	other := want[*gate.RequestBacktestResponse](a, 202)(a.RequestBacktestWithBodyWithResponse(a.ctx, "application/yaml", strings.NewReader(text), as(p.mod))).JSON202
	done(other.Id)
	want[*gate.ListBacktestsResponse](a, 200)(a.ListBacktestsWithResponse(a.ctx, &gate.ListBacktestsParams{Limit: ptr(1)}, as(p.analyst)))
	want[*gate.CancelBacktestResponse](a, 204)(a.CancelBacktestWithResponse(a.ctx, *ask.Id, as(p.analyst)))
	want[*gate.GetBacktestResponse](a, 404)(a.GetBacktestWithResponse(a.ctx, *ask.Id, as(p.analyst)))
	a.cancelARunningOne(p)
}

// cancelARunningOne tries until a backtest is cancelled in the midst of its work.
func (a *asker) cancelARunningOne(p cast) {
	// What takes a while: many passes over many events.
	var lines strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&lines, `{"type": "visit", "actor": %q, "target": %q}`+"\n", p.crowd[i%4], p.crowd[4+i%4])
	}
	want[*gate.PostBatchResponse](a, 200)(a.PostBatchWithBodyWithResponse(a.ctx, ndjson, strings.NewReader(lines.String()), as(p.service)))
	eventually(a.t, "a running backtest is cancelled", func() (any, bool) {
		b := want[*gate.RequestBacktestResponse](a, 202)(a.RequestBacktestWithResponse(a.ctx, gate.NewBacktest{Curve: ptr(true)}, as(p.analyst))).JSON202
		eventually(a.t, "it begins", func() (any, bool) {
			b := want[*gate.GetBacktestResponse](a, 200)(a.GetBacktestWithResponse(a.ctx, b.Id, as(p.analyst))).JSON200
			return b.State, b.State != "queued"
		})
		got, err := a.CancelBacktestWithResponse(a.ctx, b.Id, as(p.analyst))
		if err != nil {
			a.t.Fatal(err)
		}
		return got.StatusCode(), got.StatusCode() == http.StatusAccepted
	})
}

// askParked puts two decisions about one flag into the log, neither of which can
// be read, which parks them.
func (a *asker) askParked(p cast) {
	flag := uuid.New()
	for version := uint64(1); version <= 2; version++ {
		if _, err := a.h.Logs.Fraud.Append(a.ctx, events.Event{
			ID: uuid.New(), Type: events.FlagConfirmed, Stream: flag, Version: version, OccurredAt: time.Now(), Data: []byte("this is no JSON"),
		}); err != nil {
			a.t.Fatal(err)
		}
	}
	list := func(service gate.ListParkedParamsService, q gate.ListParkedParams) []gate.Parked {
		return want[*gate.ListParkedResponse](a, 200)(a.ListParkedWithResponse(a.ctx, service, &q, as(p.admin))).JSON200.Items
	}
	// The user service follows the fraud log under a name of its own.
	const service = "user"
	var parked []gate.Parked
	eventually(a.t, "two parked events", func() (any, bool) {
		parked = slices.DeleteFunc(list(service, gate.ListParkedParams{}), func(e gate.Parked) bool { return e.Key != flag })
		return parked, len(parked) == 2
	})
	list(service, gate.ListParkedParams{Log: &parked[0].Log, Group: &parked[0].Group, Key: &flag, Limit: ptr(1)})
	list("activity", gate.ListParkedParams{})
	want[*gate.GetParkedResponse](a, 200)(a.GetParkedWithResponse(a.ctx, service, parked[0].Id, as(p.admin)))
	want[*gate.RetryParkedResponse](a, 409)(a.RetryParkedWithResponse(a.ctx, service, parked[1].Id, as(p.admin)))
	want[*gate.RetryParkedResponse](a, 202)(a.RetryParkedWithResponse(a.ctx, service, parked[0].Id, as(p.admin)))
	want[*gate.DropParkedResponse](a, 202)(a.DropParkedWithResponse(a.ctx, service, parked[0].Id, as(p.admin)))
	for _, service := range []gate.ListSubscriptionsParamsService{"activity", "fraud", "projections", "user"} {
		want[*gate.ListSubscriptionsResponse](a, 200)(a.ListSubscriptionsWithResponse(a.ctx, service, as(p.admin)))
	}
	want[*gate.ListAllSubscriptionsResponse](a, 200)(a.ListAllSubscriptionsWithResponse(a.ctx, as(p.admin)))
}

func (a *asker) askLogs(p cast) {
	want[*gate.ListLogsResponse](a, 200)(a.ListLogsWithResponse(a.ctx, as(p.analyst)))
	for _, log := range []gate.ListEventsParamsLog{"user", "fraud", "activity"} {
		want[*gate.ListEventsResponse](a, 200)(a.ListEventsWithResponse(a.ctx, log, &gate.ListEventsParams{Limit: ptr(200)}, as(p.analyst)))
	}
	for _, accept := range []gate.ListEventsParamsAccept{
		gate.ListEventsParamsAcceptTextcsv, gate.ListEventsParamsAcceptApplicationvndApacheParquet, gate.ListEventsParamsAcceptApplicationxNdjson,
	} {
		got := want[*gate.ListEventsResponse](a, 200)(a.ListEventsWithResponse(a.ctx, "activity", &gate.ListEventsParams{
			Accept: &accept, Type: ptr(events.ProfileLiked), Actor: &p.bert.id, Since: ptr(time.Now().Add(-time.Hour)), Until: ptr(time.Now()),
		}, as(p.analyst)))
		if media, _, _ := mime.ParseMediaType(got.HTTPResponse.Header.Get("Content-Type")); media != string(accept) || got.Headers200.ContentDisposition == nil {
			a.t.Errorf("events as %s came as %s, with the headers %v", accept, media, got.HTTPResponse.Header)
		}
	}
	want[*gate.ListEventsResponse](a, 200)(a.ListEventsWithResponse(a.ctx, "activity", &gate.ListEventsParams{Partition: ptr(3), After: ptr(0), Target: &p.anna.id, Limit: ptr(5)}, as(p.analyst)))
}

package fraud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/rule"
)

// likesRule flags whoever likes so many people within an hour.
func likesRule(id string, threshold, score int) rule.Rule {
	return rule.Rule{
		ID: id, Title: id, Key: rule.KeyActor, Events: []rule.Kind{rule.Like},
		Window: rule.Window{Sliding: rule.Duration(time.Hour)}, Aggregate: rule.Count, Threshold: threshold, Score: score,
		Effect: rule.Flag, Mode: rule.Live,
	}
}

// likes makes a user like n people from a time on, a second each.
func likes(who uuid.UUID, n int, from time.Time) (acts []act) {
	for i := range n {
		acts = append(acts, act{actor: who, joined: start.AddDate(-1, 0, 0), kind: rule.Like, target: person(i), at: from.Add(time.Duration(i) * time.Second)})
	}
	return acts
}

// withFlags is a service with a flag of each of the users 1 to n, raised in that
// order.
func withFlags(t testing.TB, n int) (*running, []flagged) {
	t.Helper()
	w := newWorld(t)
	s := w.run(likesRule("three-likes", 3, 40))
	for i := range n {
		w.post(likes(user(i+1), 3, start.Add(time.Duration(i)*time.Minute))...)
	}
	s.catchUp()
	items, _ := s.flags("?sort=raised_at")
	if len(items) != n {
		t.Fatalf("%d flags, want %d", len(items), n)
	}
	return s, items
}

func (r *running) decide(id uuid.UUID, decision string) answer {
	r.Helper()
	return r.ask("POST", "/v1/moderation/flags/"+id.String()+"/decision", fmt.Sprintf(`{"decision":%q,"note":"seen"}`, decision), moderator, "moderator")
}

func (a answer) want(t testing.TB, status int) answer {
	t.Helper()
	if a.status != status {
		t.Fatalf("%d %s, want %d", a.status, a.body, status)
	}
	return a
}

func TestAConfirmationIsAnEventThatTheUserServiceCanFollow(t *testing.T) {
	s, items := withFlags(t, 1)
	var f flagged
	a := s.decide(items[0].ID, "confirm").want(t, http.StatusOK)
	a.into(t, &f)
	if f.State != "confirmed" || len(f.History) != 2 || f.History[1].Type != "confirmed" || *f.History[1].By != moderator || f.History[1].Note != "seen" {
		t.Errorf("%+v", f)
	}
	if tag := a.header.Get("ETag"); tag != `"2"` {
		t.Errorf("ETag %s", tag)
	}
	confirmed := s.fraudEvents(s.fraud, events.FlagConfirmed)
	if len(confirmed) != 1 {
		t.Fatalf("%d events, want 1", len(confirmed))
	}
	d, err := events.Unmarshal[events.Decision](confirmed[0])
	if err != nil {
		t.Fatal(err)
	}
	if d.Sealed == nil || d.Sealed.Key != user(1) {
		t.Errorf("the note is sealed as %+v", d.Sealed)
	}
	want := events.Decision{User: user(1), Rule: "three-likes", By: moderator, Sealed: d.Sealed}
	if d != want || confirmed[0].Stream != f.ID || confirmed[0].Version != 2 || !confirmed[0].OccurredAt.Equal(start) {
		t.Errorf("%+v in %+v", d, confirmed[0])
	}
	if listed, _ := s.flags("?state=confirmed"); len(listed) != 1 || listed[0].ID != f.ID {
		t.Errorf("listed: %+v", listed)
	}
}

func TestADecisionThatTheStateDoesNotAllowIsAConflict(t *testing.T) {
	for _, c := range []struct {
		made    string // decisions before, and the user's appeal
		allowed string
	}{
		{"", "confirm dismiss escalate"},
		{"escalate", "confirm dismiss"},
		{"confirm", "overturn"},
		{"dismiss", ""},
		{"confirm appeal", "uphold overturn"},
		{"confirm appeal uphold", ""},
		{"confirm appeal overturn", ""},
		{"confirm overturn", ""},
	} {
		for _, decision := range []string{"confirm", "dismiss", "escalate", "uphold", "overturn"} {
			t.Run(c.made+" then "+decision, func(t *testing.T) {
				t.Parallel()
				s, items := withFlags(t, 1)
				for _, step := range strings.Fields(c.made) {
					if step == "appeal" {
						s.ask("POST", "/v1/me/appeals", fmt.Sprintf(`{"flag":%q,"text":"please"}`, items[0].ID), user(1)).want(t, http.StatusCreated)
						continue
					}
					s.decide(items[0].ID, step).want(t, http.StatusOK)
				}
				before := s.flag(items[0].ID)
				if slices.Contains(strings.Fields(c.allowed), decision) {
					s.decide(items[0].ID, decision).want(t, http.StatusOK)
					return
				}
				a := s.decide(items[0].ID, decision).want(t, http.StatusConflict)
				if !strings.Contains(string(a.body), "the flag") {
					t.Errorf("it does not say why: %s", a.body)
				}
				if after := s.flag(items[0].ID); after.State != before.State || len(after.History) != len(before.History) {
					t.Errorf("it changed all the same: %+v", after)
				}
			})
		}
	}
}

func TestOfTwoModeratorsWhoDecideAtOnceOneDoes(t *testing.T) {
	s, items := withFlags(t, 5)
	for _, item := range items {
		const each = 4
		statuses := make([]int, 2*each)
		var wg sync.WaitGroup
		begin := make(chan struct{})
		for i := range statuses {
			decision := "confirm"
			if i >= each {
				decision = "dismiss"
			}
			wg.Go(func() {
				<-begin
				statuses[i] = s.decide(item.ID, decision).status
			})
		}
		close(begin)
		wg.Wait()
		slices.Sort(statuses)
		if statuses[0] != http.StatusOK || statuses[1] != http.StatusConflict || statuses[len(statuses)-1] != http.StatusConflict {
			t.Errorf("%v, want one 200 and else 409", statuses)
		}
	}
	decided := len(s.fraudEvents(s.fraud, events.FlagConfirmed)) + len(s.fraudEvents(s.fraud, events.FlagDismissed))
	if decided != len(items) {
		t.Errorf("%d decisions on %d flags", decided, len(items))
	}
}

func TestIfMatchGuardsADecision(t *testing.T) {
	s, items := withFlags(t, 1)
	path := "/v1/moderation/flags/" + items[0].ID.String()
	tag := s.ask("GET", path, "", moderator, "moderator").want(t, http.StatusOK).header.Get("ETag")
	s.ask("POST", path+"/notes", `{"text":"a note moves the flag on"}`, moderator, "moderator").want(t, http.StatusOK)
	body := `{"decision":"confirm"}`
	s.askWith("POST", path+"/decision", body, map[string]string{"If-Match": tag}, moderator, "moderator").want(t, http.StatusPreconditionFailed)
	s.askWith("POST", path+"/decision", body, map[string]string{"If-Match": `"2"`}, moderator, "moderator").want(t, http.StatusOK)
}

func TestFlagsAreAssignedNotedAndGivenBack(t *testing.T) {
	s, items := withFlags(t, 1)
	path := "/v1/moderation/flags/" + items[0].ID.String()
	other := uuid.UUID{0x0d, 2}
	s.ask("POST", path+"/assignee", fmt.Sprintf(`{"assignee":%q}`, other), moderator, "moderator").want(t, http.StatusOK)
	if listed, _ := s.flags("?assignee=" + other.String()); len(listed) != 1 || *listed[0].Assignee != other {
		t.Errorf("listed: %+v", listed)
	}
	if listed, _ := s.flags("?assignee=none"); len(listed) != 0 {
		t.Errorf("listed: %+v", listed)
	}
	s.ask("POST", path+"/assignee", `{"assignee":null}`, moderator, "moderator").want(t, http.StatusOK)
	if listed, _ := s.flags("?assignee=none"); len(listed) != 1 || listed[0].Assignee != nil {
		t.Errorf("listed: %+v", listed)
	}
	s.ask("POST", path+"/notes", `{"text":"looks odd"}`, moderator, "moderator").want(t, http.StatusOK)
	s.decide(items[0].ID, "dismiss").want(t, http.StatusOK)
	s.ask("POST", path+"/notes", `{"text":"a note is always possible"}`, moderator, "moderator").want(t, http.StatusOK)
	s.ask("POST", path+"/assignee", fmt.Sprintf(`{"assignee":%q}`, other), moderator, "moderator").want(t, http.StatusConflict)

	f := s.flag(items[0].ID)
	var kinds []string
	for _, h := range f.History {
		kinds = append(kinds, h.Type)
	}
	if got := strings.Join(kinds, " "); got != "raised assigned assigned noted dismissed noted" {
		t.Errorf("history: %s", got)
	}
	if f.History[1].Assignee == nil || *f.History[1].Assignee != other || f.History[2].Assignee != nil {
		t.Errorf("assignments: %+v", f.History[1:3])
	}
	if len(f.Notes) != 2 || f.Notes[0].Text != "looks odd" {
		t.Errorf("notes: %+v", f.Notes)
	}
}

func TestNextHandsOutTheMostUrgentFlagOnce(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("mild", 3, 20), likesRule("severe", 5, 80))
	w.post(likes(user(1), 3, start)...)
	w.post(likes(user(2), 5, start.Add(time.Hour))...)
	w.post(likes(user(3), 5, start.Add(2*time.Hour))...)
	s.catchUp()
	want := []string{"severe 2", "severe 3", "mild 1", "mild 2", "mild 3"}
	name := func(f flagged) string {
		for i := 1; i <= 3; i++ {
			if f.User == user(i) {
				return fmt.Sprint(f.Rule, " ", i)
			}
		}
		return f.Rule
	}
	var got []string
	for range want {
		var f flagged
		s.ask("POST", "/v1/moderation/flags/next", "", moderator, "moderator").want(t, http.StatusOK).into(t, &f)
		if f.Assignee == nil || *f.Assignee != moderator || f.State != "open" {
			t.Errorf("%+v", f)
		}
		got = append(got, name(f))
	}
	if !slices.Equal(got, want) {
		t.Errorf("handed out %v, want %v", got, want)
	}
	s.ask("POST", "/v1/moderation/flags/next", "", moderator, "moderator").want(t, http.StatusNoContent)
}

func TestNextHandsOutWhatIsAskedFor(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("mild", 3, 20), likesRule("severe", 5, 80))
	w.post(likes(user(1), 3, start)...)
	w.post(likes(user(2), 5, start.Add(time.Hour))...)
	s.catchUp()
	next := func(body string, status int) (f flagged) {
		t.Helper()
		a := s.ask("POST", "/v1/moderation/flags/next", body, moderator, "moderator").want(t, status)
		if status != http.StatusNoContent {
			a.into(t, &f)
		}
		if status == http.StatusOK && a.header.Get("ETag") != `"2"` {
			t.Errorf("ETag %s", a.header.Get("ETag"))
		}
		return f
	}
	next(`{"min_score":81}`, http.StatusNoContent)
	next(`{"rule":"severe","min_score":81}`, http.StatusNoContent)
	next(`{"rule":"another"}`, http.StatusNoContent)
	if f := next(`{"rule":"mild"}`, http.StatusOK); f.Rule != "mild" || f.User != user(1) {
		t.Errorf("%+v", f)
	}
	if f := next(`{"min_score":80}`, http.StatusOK); f.Rule != "severe" {
		t.Errorf("%+v", f)
	}
	next(`{"min_score":80}`, http.StatusNoContent)
	if f := next(`{}`, http.StatusOK); f.Rule != "mild" || f.User != user(2) {
		t.Errorf("%+v", f)
	}
	next(`{"rule":"A_B","min_score":101}`, http.StatusUnprocessableEntity)
	next(`{"score":1}`, http.StatusUnprocessableEntity)
}

// What was read or answered can be decided on, unless somebody else was there.
func TestEveryAnswerWithAFlagHasItsETag(t *testing.T) {
	s, items := withFlags(t, 1)
	path := "/v1/moderation/flags/" + items[0].ID.String()
	for i, step := range []struct{ route, body string }{
		{"/assignee", `{"assignee":null}`}, {"/notes", `{"text":"x"}`}, {"/decision", `{"decision":"escalate"}`}, {"/decision", `{"decision":"confirm"}`},
	} {
		tag := s.ask("GET", path, "", moderator, "moderator").want(t, http.StatusOK).header.Get("ETag")
		a := s.askWith("POST", path+step.route, step.body, map[string]string{"If-Match": tag}, moderator, "moderator").want(t, http.StatusOK)
		if got, want := a.header.Get("ETag"), fmt.Sprintf("%q", fmt.Sprint(i+2)); got != want {
			t.Errorf("%s: ETag %s, want %s", step.route, got, want)
		}
		s.askWith("POST", path+step.route, step.body, map[string]string{"If-Match": tag}, moderator, "moderator").want(t, http.StatusPreconditionFailed)
	}
}

func TestModeratorsWhoAskForTheNextAtOnceGetDifferentFlags(t *testing.T) {
	const n = 6
	s, _ := withFlags(t, n)
	ids := make([]uuid.UUID, n)
	var wg sync.WaitGroup
	for i := range ids {
		wg.Go(func() {
			a := s.ask("POST", "/v1/moderation/flags/next", "", uuid.UUID{0x0d, byte(i)}, "moderator")
			var f flagged
			if a.status != http.StatusOK || json.Unmarshal(a.body, &f) != nil {
				t.Errorf("%d %s", a.status, a.body)
			}
			ids[i] = f.ID
		})
	}
	wg.Wait()
	slices.SortFunc(ids, func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
	if len(slices.Compact(ids)) != n {
		t.Errorf("some got the same: %v", ids)
	}
}

func TestOnlyTheFlaggedUserAppealsAndOnlyWhileItIsConfirmed(t *testing.T) {
	s, items := withFlags(t, 1)
	body := fmt.Sprintf(`{"flag":%q,"text":"I am just friendly"}`, items[0].ID)
	s.ask("POST", "/v1/me/appeals", body, user(1)).want(t, http.StatusConflict)
	s.decide(items[0].ID, "confirm").want(t, http.StatusOK)
	s.ask("POST", "/v1/me/appeals", body, user(2)).want(t, http.StatusNotFound)
	s.ask("POST", "/v1/me/appeals", `{"flag":"`+uuid.NewString()+`","text":"x"}`, user(1)).want(t, http.StatusNotFound)
	s.ask("POST", "/v1/me/appeals", `{"flag":"`+items[0].ID.String()+`","text":""}`, user(1)).want(t, http.StatusUnprocessableEntity)
	a := s.ask("POST", "/v1/me/appeals", body, user(1)).want(t, http.StatusCreated)
	if strings.Contains(string(a.body), "evidence") {
		t.Errorf("the user sees the evidence: %s", a.body)
	}
	s.ask("POST", "/v1/me/appeals", body, user(1)).want(t, http.StatusConflict)
	f := s.flag(items[0].ID)
	if last := f.History[len(f.History)-1]; f.State != "appealed" || last.Note != "I am just friendly" || *last.By != user(1) {
		t.Errorf("%+v", f)
	}
}

func TestOneSeesOnesOwnAppealsAndWhatCameOfThem(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("three-likes", 3, 40), likesRule("two-likes", 2, 30))
	for u := 1; u <= 2; u++ {
		w.post(likes(user(u), 3, start.Add(time.Duration(u)*time.Minute))...)
	}
	s.catchUp()
	items, _ := s.flags("?sort=raised_at")
	for _, f := range items {
		s.decide(f.ID, "confirm").want(t, http.StatusOK)
		s.ask("POST", "/v1/me/appeals", fmt.Sprintf(`{"flag":%q,"text":"about %s"}`, f.ID, f.Rule), f.User).want(t, http.StatusCreated)
	}
	first := items[0] // of user 1, by the rule that takes fewer likes
	s.ask("POST", "/v1/moderation/flags/"+first.ID.String()+"/decision", `{"decision":"uphold","note":"between us"}`, moderator, "moderator").want(t, http.StatusOK)

	type page struct {
		Items []struct {
			Flag              uuid.UUID
			State, Text, Note string
			At                time.Time
		}
		Next string
	}
	read := func(query string, of uuid.UUID) (p page) {
		t.Helper()
		a := s.ask("GET", "/v1/me/appeals"+query, "", of).want(t, http.StatusOK)
		if err := json.Unmarshal(a.body, &p); err != nil || strings.Contains(string(a.body), "between us") {
			t.Fatalf("%v: %s", err, a.body)
		}
		return p
	}
	newest := read("?limit=1", user(1))
	if len(newest.Items) != 1 || newest.Items[0].Text != "about three-likes" || newest.Items[0].State != "appealed" || newest.Items[0].At.IsZero() {
		t.Errorf("first page: %+v", newest)
	}
	rest := read("?cursor="+newest.Next, user(1))
	if len(rest.Items) != 1 || rest.Items[0].Text != "about two-likes" || rest.Items[0].State != "upheld" || rest.Items[0].Flag != first.ID || rest.Next != "" {
		t.Errorf("second page: %+v", rest)
	}
	if of := read("", user(3)); len(of.Items) != 0 {
		t.Errorf("of somebody without one: %+v", of)
	}
	s.ask("GET", "/v1/me/appeals?limit=0", "", user(1)).want(t, http.StatusUnprocessableEntity)
	s.askWith("GET", "/v1/me/appeals", "", map[string]string{"Authorization": ""}, user(1)).want(t, http.StatusUnauthorized)
}

func TestAFlagThatStandsOrWasDismissedKeepsOthersOfItsUserAndRuleAway(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("three-likes", 3, 40), likesRule("four-likes", 4, 40))
	again := func(after time.Duration, want int, why string) {
		t.Helper()
		w.post(likes(user(1), 3, start.Add(after))...)
		s.catchUp()
		if items, _ := s.flags("?rule=three-likes"); len(items) != want {
			t.Fatalf("%s: %d flags, want %d", why, len(items), want)
		}
	}
	again(0, 1, "the first")
	again(5*time.Hour, 1, "while it is open")
	items, _ := s.flags("")
	s.decide(items[0].ID, "confirm").want(t, http.StatusOK)
	again(10*time.Hour, 1, "while it is confirmed")
	w.clock.Set(start.Add(20 * time.Hour))
	s.decide(items[0].ID, "overturn").want(t, http.StatusOK)
	again(21*time.Hour, 1, "just after it was overturned")
	again(20*time.Hour+30*24*time.Hour-3*time.Second, 1, "a moment before the snooze ends")
	again(20*time.Hour+31*24*time.Hour, 2, "after the snooze")
	w.post(likes(user(1), 4, start.Add(1000*time.Hour))...)
	s.catchUp()
	if items, _ := s.flags("?rule=four-likes"); len(items) != 1 {
		t.Errorf("another rule: %d flags, want 1", len(items))
	}
	w.post(likes(user(2), 3, start)...)
	s.catchUp()
	if items, _ := s.flags("?user=" + user(2).String()); len(items) != 1 {
		t.Errorf("another user: %d flags, want 1", len(items))
	}
}

func TestARuleThatMarksConfirmsItsOwnFlag(t *testing.T) {
	w := newWorld(t)
	r := likesRule("three-likes", 3, 100)
	r.Effect = rule.FlagAndMark
	s := w.run(r)
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	items, _ := s.flags("")
	if len(items) != 1 || items[0].State != "confirmed" {
		t.Fatalf("flags: %+v", items)
	}
	f := s.flag(items[0].ID)
	if len(f.History) != 2 || f.History[1].Type != "confirmed" || f.History[1].By != nil {
		t.Errorf("history: %+v", f.History)
	}
	s.decide(f.ID, "overturn").want(t, http.StatusOK)
}

func TestFlagsAreFilteredSortedAndPaged(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("mild", 3, 20), likesRule("severe", 5, 80))
	for i := range 7 {
		w.post(likes(user(i+1), 3+i%3, start.Add(time.Duration(i)*time.Hour))...)
	}
	s.catchUp()
	all, _ := s.flags("")
	if len(all) != 9 { // seven mild ones, and severe ones of users 3 and 6
		t.Fatalf("%d flags, want 9", len(all))
	}
	s.decide(all[0].ID, "dismiss").want(t, http.StatusOK)

	count := func(query string, want int) {
		t.Helper()
		if items, _ := s.flags(query); len(items) != want {
			t.Errorf("%s: %d flags, want %d", query, len(items), want)
		}
	}
	count("?rule=severe", 2)
	count("?min_score=21", 2)
	count("?min_score=20", 9)
	count("?state=dismissed", 1)
	count("?state=open,dismissed", 9)
	count("?user="+user(3).String(), 2)
	count("?user="+user(3).String()+"&rule=mild", 1)
	count("?assignee=none", 9)
	count("?assignee=me", 0)
	count("?since=2026-03-01T15:00:00Z", 5)
	count("?until=2026-03-01T15:00:00Z", 4)
	count("?since=2026-03-01T14:00:00Z&until=2026-03-01T15:00:00Z", 2)

	for _, sort := range []string{"raised_at", "-raised_at", "score", "-score"} {
		whole, _ := s.flags("?sort=" + sort)
		ordered := slices.IsSortedFunc(whole, func(a, b flagged) int {
			c := strings.Compare(a.RaisedAt, b.RaisedAt)
			if strings.Contains(sort, "score") {
				c = a.Score - b.Score
			}
			if strings.HasPrefix(sort, "-") {
				c = -c
			}
			return c
		})
		if !ordered {
			t.Errorf("%s is out of order: %+v", sort, whole)
		}
		var paged []flagged
		cursor := ""
		for page := 0; page == 0 || cursor != ""; page++ {
			items, next := s.flags("?limit=2&sort=" + sort + "&cursor=" + cursor)
			paged = append(paged, items...)
			cursor = next
		}
		if len(paged) != len(whole) {
			t.Fatalf("%s: pages hold %d flags, want %d", sort, len(paged), len(whole))
		}
		for i := range paged {
			if paged[i].ID != whole[i].ID {
				t.Errorf("%s: flag %d differs in pages", sort, i)
			}
		}
	}
	if items, next := s.flags("?limit=9"); len(items) != 9 || next != "" {
		t.Errorf("a page that holds all has a next one: %s", next)
	}
	_, next := s.flags("?limit=2&sort=score")
	s.ask("GET", "/v1/moderation/flags?limit=2&sort=raised_at&cursor="+next, "", moderator, "moderator").want(t, http.StatusUnprocessableEntity)

	var ofUser struct{ Items []flagged }
	s.ask("GET", "/internal/users/"+user(3).String()+"/flags", "", moderator, "moderator").want(t, http.StatusOK).into(t, &ofUser)
	if len(ofUser.Items) != 2 || ofUser.Items[0].Rule != "severe" {
		t.Errorf("flags of a user: %+v", ofUser.Items)
	}
}

func TestBadRequestsAreRefusedWithTheFieldsName(t *testing.T) {
	s, items := withFlags(t, 1)
	id := items[0].ID.String()
	long := strings.Repeat("ä", 2001)
	for _, c := range []struct {
		method, path, body string
		status             int
		names              string
	}{
		{"GET", "/v1/moderation/flags?state=closed", "", 422, "state"},
		{"GET", "/v1/moderation/flags?state=open,", "", 422, "state"},
		{"GET", "/v1/moderation/flags?min_score=101", "", 422, "min_score"},
		{"GET", "/v1/moderation/flags?min_score=x&user=1&sort=name&since=today&until=1&assignee=you&rule=A_B", "", 422,
			"min_score user sort since until assignee rule"},
		{"GET", "/v1/moderation/flags?limit=101", "", 422, "limit"},
		{"GET", "/v1/moderation/flags?cursor=abc", "", 422, "cursor"},
		{"GET", "/v1/moderation/flags/7", "", 422, "id"},
		{"GET", "/v1/moderation/flags/" + uuid.NewString(), "", 404, ""},
		{"GET", "/v1/moderation/rules/nope", "", 404, ""},
		{"POST", "/v1/moderation/flags/" + uuid.NewString() + "/decision", `{"decision":"confirm"}`, 404, ""},
		{"POST", "/v1/moderation/flags/" + id + "/decision", `{"decision":"ban"}`, 422, "decision"},
		{"POST", "/v1/moderation/flags/" + id + "/decision", `{"decision":"confirm","note":"` + long + `"}`, 422, "note"},
		{"POST", "/v1/moderation/flags/" + id + "/decision", `{"decision":"confirm","why":"x"}`, 422, "why"},
		{"POST", "/v1/moderation/flags/" + id + "/decision", `{"decision":`, 400, ""},
		{"POST", "/v1/moderation/flags/" + id + "/assignee", `{}`, 422, "assignee"},
		{"POST", "/v1/moderation/flags/" + id + "/assignee", `{"assignee":"me"}`, 422, "assignee"},
		{"POST", "/v1/moderation/flags/" + id + "/notes", `{"text":""}`, 422, "text"},
		{"POST", "/v1/moderation/flags/" + id + "/notes", `{"text":"` + long + `"}`, 422, "text"},
		{"POST", "/v1/me/appeals", `{"text":"x"}`, 422, "flag"},
	} {
		a := s.ask(c.method, c.path, c.body, moderator, "moderator")
		var p struct {
			Errors []struct{ Field string }
		}
		if a.status != c.status || a.header.Get("Content-Type") != "application/problem+json" || json.Unmarshal(a.body, &p) != nil {
			t.Errorf("%s %s: %d %s, want %d", c.method, c.path, a.status, a.body, c.status)
			continue
		}
		var named []string
		for _, e := range p.Errors {
			named = append(named, e.Field)
		}
		slices.Sort(named)
		want := strings.Fields(c.names)
		slices.Sort(want)
		if !slices.Equal(named, want) {
			t.Errorf("%s %s names %v, want %v", c.method, c.path, named, want)
		}
	}
	if f := s.flag(items[0].ID); len(f.History) != 1 {
		t.Errorf("something was done all the same: %+v", f.History)
	}
}

func TestModerationIsForModerators(t *testing.T) {
	s, items := withFlags(t, 1)
	id := items[0].ID.String()
	for _, route := range []string{
		"GET /v1/moderation/flags", "GET /v1/moderation/flags/" + id, "POST /v1/moderation/flags/next",
		"POST /v1/moderation/flags/" + id + "/decision", "POST /v1/moderation/flags/" + id + "/assignee",
		"POST /v1/moderation/bulk", "GET /v1/moderation/bulk/" + id, "POST /v1/moderation/bulk/" + id + "/undo",
		"POST /v1/moderation/flags/" + id + "/notes", "GET /v1/moderation/rules", "GET /v1/moderation/rules/three-likes",
		"GET /internal/users/" + user(1).String() + "/flags",
	} {
		method, path, _ := strings.Cut(route, " ")
		s.ask(method, path, "{}", user(1), "analyst", "service").want(t, http.StatusForbidden)
		s.askWith(method, path, "{}", map[string]string{"Authorization": "Bearer x"}, moderator, "moderator").want(t, http.StatusUnauthorized)
	}
	s.askWith("POST", "/v1/me/appeals", "{}", map[string]string{"Authorization": ""}, user(1)).want(t, http.StatusUnauthorized)
}

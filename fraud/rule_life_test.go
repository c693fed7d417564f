package fraud_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/fraud/register"
	"github.com/meet5/backend/fraud/rule"
)

// shownRule is a rule in an answer.
type shownRule struct {
	rule.Rule
	Version   string
	DefinedAt string `json:"defined_at"`
	DefinedBy string `json:"defined_by"`
	Why       string
	ModeBy    string `json:"mode_by"`
	ModeWhy   string `json:"mode_why"`
	Fault     string
	Runs      bool
	Warming   bool
	Hits      *int
	Flags     map[string]int
	Metrics   struct {
		Evaluations, Confirmed, Dismissed *int
		Precision                         *float64
	}
}

func (r *running) rule(id string) (shown shownRule, tag string) {
	r.Helper()
	a := r.ask("GET", "/v1/moderation/rules/"+id, "", moderator, "moderator").want(r, http.StatusOK)
	a.into(r, &shown)
	return shown, a.header.Get("ETag")
}

// put puts a rule as JSON, without its mode.
func (r *running) put(one rule.Rule, why string, header map[string]string) answer {
	r.Helper()
	one.Mode = ""
	body, err := json.Marshal(one)
	if err != nil {
		r.Fatal(err)
	}
	return r.askWith("PUT", "/v1/moderation/rules/"+one.ID+"?why="+url.QueryEscape(why), string(body), header, moderator, "moderator")
}

func (r *running) setMode(id string, to rule.Mode, force bool) answer {
	r.Helper()
	body := fmt.Sprintf(`{"mode":%q,"why":"because of %s","force":%v}`, to, to, force)
	return r.ask("POST", "/v1/moderation/rules/"+id+"/mode", body, moderator, "moderator")
}

func TestARuleGoesFromDraftToShadowToLiveWithoutARestart(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("four-likes", 4, 10))
	w.post(likes(user(1), 3, start)...) // history: a hit of the new rule
	s.catchUp()

	s.put(likesRule("three-likes", 3, 40), "too many likes", nil).want(t, http.StatusCreated)
	shown, tag := s.rule("three-likes")
	if shown.Mode != rule.Draft || shown.Runs || shown.Hits != nil || shown.Why != "too many likes" || shown.DefinedBy != moderator.String() || tag != `"1"` {
		t.Errorf("%+v %s", shown, tag)
	}

	s.setMode("three-likes", rule.Shadow, false).want(t, http.StatusOK)
	s.catchUp()
	w.post(likes(user(2), 3, start)...)
	s.catchUp()
	shown, _ = s.rule("three-likes")
	if !shown.Runs || shown.Warming || *shown.Hits != 2 || shown.ModeWhy != "because of shadow" || *shown.Metrics.Evaluations != 6 {
		t.Errorf("in shadow: %+v", shown)
	}
	if items, _ := s.flags(""); len(items) != 0 {
		t.Fatalf("a shadow rule raised %+v", items)
	}

	s.setMode("three-likes", rule.Live, false).want(t, http.StatusOK)
	s.catchUp()
	if items, _ := s.flags(""); len(items) != 0 {
		t.Fatalf("it raised flags for what was before it went live: %+v", items)
	}
	// Two likes before it went live and one after: the window knows of them.
	w.post(likes(user(3), 2, start)...)
	s.catchUp()
	w.post(likes(user(3), 3, start.Add(time.Minute))[2:]...)
	s.catchUp()
	items, _ := s.flags("")
	if len(items) != 1 || items[0].User != user(3) {
		t.Fatalf("flags: %+v, want one of %s", items, user(3))
	}

	s.setMode("three-likes", rule.Retired, false).want(t, http.StatusOK)
	s.catchUp()
	w.post(likes(user(4), 3, start)...)
	s.catchUp()
	if items, _ := s.flags(""); len(items) != 1 {
		t.Errorf("a retired rule raised %+v", items)
	}
	if shown, _ := s.rule("three-likes"); shown.Runs || shown.Hits != nil || shown.Flags["open"] != 1 {
		t.Errorf("retired: %+v", shown)
	}
	if told, want := w.ruleEvents(), "draft to shadow by "+moderator.String()+", shadow to live by "+moderator.String()+", live to retired by "+moderator.String(); !strings.HasSuffix(told, want) {
		t.Errorf("%s, want the end %s", told, want)
	}
}

func TestANewVersionOfALiveRuleRaisesFromThereOn(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("some-likes", 4, 40))
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	s.put(likesRule("some-likes", 3, 40), "four is too lax", nil).want(t, http.StatusOK)
	s.catchUp()
	if items, _ := s.flags(""); len(items) != 0 {
		t.Fatalf("the new version raised flags for what was before it: %+v", items)
	}
	w.post(likes(user(2), 3, start)...)
	s.catchUp()
	items, _ := s.flags("")
	version := likesRule("some-likes", 3, 40).Version()
	if len(items) != 1 || items[0].User != user(2) || items[0].RuleVersion != version {
		t.Fatalf("flags: %+v", items)
	}
	// The book has the old version still. What a moderator has put counts.
	s.stop()
	s = w.run(likesRule("some-likes", 4, 40))
	if shown, _ := s.rule("some-likes"); shown.Version != version || shown.Threshold != 3 || shown.Mode != rule.Live {
		t.Errorf("after a restart: %+v", shown)
	}
}

func TestChangesOfModeThatMakeNoSenseAreRefused(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("book", 3, 40))
	for _, c := range []struct {
		made    string // modes before
		to      rule.Mode
		force   bool
		status  int
		because string
	}{
		{"", rule.Live, false, http.StatusConflict, "shadow first"},
		{"", rule.Live, true, http.StatusOK, ""},
		{"", rule.Draft, false, http.StatusOK, ""},
		{"shadow", rule.Draft, false, http.StatusConflict, "cannot go from shadow to draft; from shadow it can go to live or retired"},
		{"shadow live", rule.Draft, false, http.StatusConflict, "cannot go from live to draft"},
		{"shadow live", rule.Shadow, false, http.StatusOK, ""},
		{"retired", rule.Live, true, http.StatusConflict, "cannot go from retired to live"},
		{"retired", rule.Draft, false, http.StatusOK, ""},
	} {
		t.Run(fmt.Sprintf("%s then %s %v", c.made, c.to, c.force), func(t *testing.T) {
			id := "r-" + strings.ReplaceAll(c.made+" x "+string(c.to), " ", "")
			if c.force {
				id += "-force"
			}
			s.put(likesRule(id, 3, 40), "a test", nil).want(t, http.StatusCreated)
			for _, mode := range strings.Fields(c.made) {
				s.setMode(id, rule.Mode(mode), false).want(t, http.StatusOK)
			}
			a := s.setMode(id, c.to, c.force).want(t, c.status)
			if !strings.Contains(string(a.body), c.because) {
				t.Errorf("it does not say %q: %s", c.because, a.body)
			}
		})
	}
	s.setMode("nobody", rule.Live, false).want(t, http.StatusNotFound)
}

func TestARuleIsPutOnceAndByTheOneWhoHasSeenIt(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("book", 3, 40))
	r := likesRule("mine", 3, 40)
	s.put(r, "first", nil).want(t, http.StatusCreated)
	before := len(w.fraudEvents(w.fraud, events.RuleDefined))
	s.put(r, "again", nil).want(t, http.StatusOK)
	if n := len(w.fraudEvents(w.fraud, events.RuleDefined)); n != before {
		t.Errorf("putting what is there wrote %d events", n-before)
	}
	r.Threshold = 4
	s.put(r, "more", map[string]string{"If-Match": `"7"`}).want(t, http.StatusPreconditionFailed)
	s.put(r, "more", map[string]string{"If-Match": `"1"`}).want(t, http.StatusOK)
	// Cases are no part of the version, and yet worth an event.
	r.Cases = []rule.Case{{Name: "n", History: []rule.Step{{Type: rule.Like, Targets: 1, First: 1, Times: 1}}}}
	s.put(r, "a case", nil).want(t, http.StatusOK)

	var page struct {
		Items []struct {
			Version, Why string
			Number       int
			DefinedBy    string `json:"defined_by"`
			Rule         rule.Rule
		}
	}
	s.ask("GET", "/v1/moderation/rules/mine/versions", "", moderator, "moderator").want(t, http.StatusOK).into(t, &page)
	var told []string
	for _, v := range page.Items {
		told = append(told, fmt.Sprintf("%d %s %d %d %v", v.Number, v.Why, v.Rule.Threshold, len(v.Rule.Cases), v.DefinedBy == moderator.String()))
	}
	if got, want := strings.Join(told, ", "), "3 a case 4 1 true, 2 more 4 0 true, 1 first 3 0 true"; got != want {
		t.Errorf("%s, want %s", got, want)
	}

	var d struct {
		From, To int
		Diff     string
		Changes  []struct {
			Field    string
			From, To any
		}
	}
	s.ask("GET", "/v1/moderation/rules/mine/diff?from=1&to=2", "", moderator, "moderator").want(t, http.StatusOK).into(t, &d)
	if len(d.Changes) != 1 || d.Changes[0].Field != "threshold" || fmt.Sprint(d.Changes[0].From, d.Changes[0].To) != "3 4" ||
		!strings.Contains(d.Diff, "\n-threshold: 3\n+threshold: 4\n") {
		t.Errorf("%+v", d)
	}
	s.ask("GET", "/v1/moderation/rules/mine/diff?from=9", "", moderator, "moderator").want(t, http.StatusUnprocessableEntity)
}

func TestARuleIsReadAsYAMLAndPutAsYAML(t *testing.T) {
	w := newWorld(t)
	s := w.run()
	yaml := map[string]string{"Accept": "application/yaml", "Content-Type": "application/yaml"}
	a := s.askWith("GET", "/v1/moderation/rules/meet5-first-minutes", "", yaml, moderator, "moderator").want(t, http.StatusOK)
	back, err := rule.Parse(a.body)
	if err != nil || len(back) != 1 || len(back[0].Cases) < 5 {
		t.Fatalf("%v\n%s", err, a.body)
	}
	put := func(text string) answer {
		return s.askWith("PUT", "/v1/moderation/rules/meet5-first-minutes?why=x", text, yaml, moderator, "moderator")
	}
	before := len(w.fraudEvents(w.fraud, events.RuleDefined))
	put(string(a.body)).want(t, http.StatusOK)
	if n := len(w.fraudEvents(w.fraud, events.RuleDefined)); n != before {
		t.Errorf("putting what is there wrote %d events", n-before)
	}
	bad := strings.Replace(string(a.body), "threshold: 100", "threshold: 100000\ncolour: red", 1)
	var p struct {
		Errors []struct {
			Field, Message string
			Line, Column   int
		}
	}
	put(bad).want(t, http.StatusUnprocessableEntity).into(t, &p)
	if len(p.Errors) != 2 || p.Errors[0].Field != "threshold" || p.Errors[0].Line == 0 || p.Errors[0].Column == 0 || !strings.Contains(p.Errors[1].Message, "colour") {
		t.Errorf("%+v", p)
	}
}

func TestBadRulesAreRefusedWithTheReason(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("book", 3, 40))
	good := `{"id":"mine","title":"t","events":["like"],"window":{"sliding":"1h"},"aggregate":"count","threshold":3,"score":1}`
	for name, c := range map[string]struct {
		path, body, kind string
		status           int
		because          string
	}{
		"another id":           {"/other?why=x", good, "", 422, `"field":"id"`},
		"no reason":            {"/mine", good, "", 422, `"field":"why"`},
		"a long reason":        {"/mine?why=" + strings.Repeat("x", 501), good, "", 422, "501 characters"},
		"two rules":            {"/mine?why=x", good + "\n---\n" + good, "", 422, "one by one"},
		"a mode of its own":    {"/mine?why=x", strings.Replace(good, "{", `{"mode":"live",`, 1), "", 422, "begins as a draft"},
		"a negative window":    {"/mine?why=x", strings.Replace(good, "1h", "-1h", 1), "", 422, "negative"},
		"too high a threshold": {"/mine?why=x", strings.Replace(good, ":3", ":10001", 1), "", 422, "10000"},
		"an unknown field":     {"/mine?why=x", strings.Replace(good, "{", `{"colour":"red",`, 1), "", 422, "colour"},
		"not a rule":           {"/mine?why=x", "[", "", 422, ""},
		"another type":         {"/mine?why=x", good, "text/plain", 415, "application/yaml"},
		"too large":            {"/mine?why=x", `{"id":"` + strings.Repeat("x", 70_000), "", 413, ""},
	} {
		t.Run(name, func(t *testing.T) {
			kind := map[string]string{"Content-Type": "application/json"}
			if c.kind != "" {
				kind["Content-Type"] = c.kind
			}
			a := s.askWith("PUT", "/v1/moderation/rules"+c.path, c.body, kind, moderator, "moderator").want(t, c.status)
			if !strings.Contains(string(a.body), c.because) {
				t.Errorf("it does not say %q: %s", c.because, a.body)
			}
		})
	}
	for _, body := range []string{`{"mode":"on","why":"x"}`, `{"mode":"draft"}`, `{"mode":"draft","why":"x","colour":"red"}`} {
		s.ask("POST", "/v1/moderation/rules/book/mode", body, moderator, "moderator").want(t, 422)
	}
	s.ask("GET", "/v1/moderation/rules/mine", "", moderator, "moderator").want(t, http.StatusNotFound)
	s.ask("PUT", "/v1/moderation/rules/mine?why=x", good, user(1)).want(t, http.StatusForbidden)
}

func TestWhatCannotBeReadOfARuleConcernsThatRuleOnly(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("book", 3, 40))
	s.put(likesRule("odd", 3, 40), "x", nil).want(t, http.StatusCreated)
	odd := w.fraudEvents(w.fraud, events.RuleDefined)[1]
	write := func(version uint64, eventType, data string) {
		t.Helper()
		e := events.Event{ID: uuid.New(), Type: eventType, Stream: odd.Stream, Version: version, OccurredAt: start, Data: []byte(data)}
		if _, err := w.fraud.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	later := `{"rule":"odd","version":"0123456789abcdef","mode":"live","by":"later","why":"w","spec":{"id":"odd","moon":"full"}}`
	write(2, events.RuleDefined, later)
	s.catchUp()
	if shown, _ := s.rule("odd"); shown.Runs || !strings.Contains(shown.Fault, "moon") || shown.Mode != rule.Live {
		t.Errorf("%+v", shown)
	}
	stream := len(w.fraudEvents(w.fraud, events.RuleTookEffect))
	write(4, events.RuleModeChanged, `{"rule":7}`)
	write(5, "fraud.rule_dreamt.v1", `{}`)
	s.catchUp()
	if n := len(w.fraudEvents(w.fraud, events.RuleTookEffect)); n != stream {
		t.Errorf("where a rule takes effect was settled by one who cannot read it")
	}
	if shown, _ := s.rule("odd"); shown.Runs || !strings.Contains(shown.Fault, "dreamt") {
		t.Errorf("%+v", shown)
	}
	if n := s.parked("fraud-flags"); n != 0 {
		t.Errorf("%d events are parked", n)
	}
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	s.stop()
	s = w.run(likesRule("book", 3, 40))
	if items, _ := s.flags(""); len(items) != 1 || items[0].Rule != "book" {
		t.Errorf("flags: %+v", items)
	}
	// Put anew, it is in order again.
	s.put(likesRule("odd", 5, 40), "mended", nil).want(t, http.StatusOK)
	s.catchUp()
	if shown, _ := s.rule("odd"); shown.Fault != "" || !shown.Runs || shown.Threshold != 5 || shown.Mode != rule.Live {
		t.Errorf("%+v", shown)
	}
}

// The register lets no more through. Two changes at once may, or a build with other
// bounds.
func TestMoreRulesThanCanRunAreLeftOutWithTheReason(t *testing.T) {
	w := newWorld(t)
	for i := range register.MaxRunning + 1 {
		r := likesRule(fmt.Sprintf("r-%03d", i), 3, 40)
		if i < 2 {
			r.Mode = rule.Shadow
		}
		spec, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(events.RuleDefinition{Rule: r.ID, Version: r.Version(), Mode: string(r.Mode), Spec: spec, By: "anna", Why: "w"})
		if err != nil {
			t.Fatal(err)
		}
		e := events.Event{ID: uuid.New(), Type: events.RuleDefined, Stream: register.Stream(r.ID), Version: 1, OccurredAt: start, Data: data}
		if _, err := w.fraud.Append(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	draft := likesRule("book", 3, 40)
	draft.Mode = rule.Draft
	s := w.run(draft)
	for id, runs := range map[string]bool{"r-000": true, "r-001": false, "r-002": true, fmt.Sprintf("r-%03d", register.MaxRunning): true} {
		shown, _ := s.rule(id)
		if shown.Runs != runs || (shown.Fault == "") != runs || shown.Title != id {
			t.Errorf("%s: %+v", id, shown)
		}
	}
}

func TestARuleThatHasLeftTheBookIsRetiredUnlessSomebodyHasChangedIt(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("one", 3, 40), likesRule("two", 3, 40))
	s.setMode("two", rule.Shadow, false).want(t, http.StatusOK)
	s.stop()
	s = w.run(likesRule("three", 3, 40))
	for id, want := range map[string]rule.Mode{"one": rule.Retired, "two": rule.Shadow, "three": rule.Live} {
		shown, _ := s.rule(id)
		if shown.Mode != want {
			t.Errorf("%s is %s, want %s", id, shown.Mode, want)
		}
		if id == "one" && (shown.ModeWhy != "it has left the rule book" || shown.ModeBy != "rulebook") {
			t.Errorf("%+v", shown)
		}
	}
	s.stop()
	s = w.run(likesRule("one", 3, 40), likesRule("two", 3, 40))
	if shown, _ := s.rule("one"); shown.Mode != rule.Live {
		t.Errorf("back in the book it is %s", shown.Mode)
	}
}

func TestHitsAreListedTheLatestFirst(t *testing.T) {
	w := newWorld(t)
	shadow := likesRule("three-likes", 3, 40)
	shadow.Mode = rule.Shadow
	s := w.run(shadow)
	for i := range 5 {
		w.post(likes(user(i), 3, start.Add(time.Duration(i)*time.Minute))...)
	}
	s.catchUp()
	type page struct {
		Items []struct {
			User          uuid.UUID
			At            string
			Observed      int
			EvidenceCount int `json:"evidence_count"`
			Evidence      []events.Position
			Position      events.Position
		}
		Next string
	}
	read := func(s *running) (users []uuid.UUID) {
		next := ""
		for {
			var p page
			s.ask("GET", "/v1/moderation/rules/three-likes/hits?limit=2&cursor="+next, "", moderator, "moderator").want(t, http.StatusOK).into(t, &p)
			for _, h := range p.Items {
				users = append(users, h.User)
				if h.Observed != 3 || h.EvidenceCount != 3 || len(h.Evidence) != 3 || h.Evidence[2] != h.Position {
					t.Errorf("%+v", h)
				}
			}
			if next = p.Next; next == "" {
				return users
			}
		}
	}
	want := fmt.Sprint([]uuid.UUID{user(4), user(3), user(2), user(1), user(0)})
	if got := fmt.Sprint(read(s)); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.stop()
	if got := fmt.Sprint(read(w.run(shadow))); got != want {
		t.Errorf("after a restart: %s, want %s", got, want)
	}
}

func TestRulesAreValidatedWithoutBeingPut(t *testing.T) {
	w := newWorld(t)
	s := w.run(likesRule("book", 3, 40))
	type answered struct {
		Valid  bool
		Errors []rule.Fault
		Rules  []struct {
			ID             string
			Known, Changed bool
			Cases          []struct {
				Name   string
				Passed bool
				Got    []string
			}
			Cost struct {
				Nanoseconds int64     `json:"nanoseconds_per_event"`
				Keeps       rule.Cost `json:"keeps_at_most"`
			}
		}
	}
	validate := func(text string) (a answered) {
		t.Helper()
		s.askWith("POST", "/v1/moderation/rules/validate", text, map[string]string{"Content-Type": "application/yaml"}, moderator, "moderator").
			want(t, http.StatusOK).into(t, &a)
		return a
	}
	text := "id: book\ntitle: t\nevents: [like]\nwindow: {sliding: 1h}\naggregate: count\nthreshold: 2\nscore: 1\n" +
		"cases: [{name: two, history: [{type: like, times: 2}], expect: {fires_at: 0s}}, {name: wrong, history: [{type: like, times: 2}], expect: silent}]\n"
	var schema struct {
		Properties map[string]any
	}
	s.ask("GET", "/v1/moderation/rules/schema.json", "", moderator, "moderator").want(t, http.StatusOK).into(t, &schema)
	if schema.Properties["threshold"] == nil {
		t.Errorf("the schema has the properties %v", schema.Properties)
	}
	a := validate(text)
	if a.Valid || len(a.Rules) != 1 || !a.Rules[0].Known || !a.Rules[0].Changed || len(a.Rules[0].Cases) != 2 ||
		!a.Rules[0].Cases[0].Passed || a.Rules[0].Cases[1].Passed || a.Rules[0].Cost.Nanoseconds <= 0 || a.Rules[0].Cost.Keeps.Entries != 2 {
		t.Errorf("%+v", a)
	}
	if a := validate(strings.Replace(text, "expect: silent", "expect: {fires_at: 0s}", 1)); !a.Valid {
		t.Errorf("%+v", a)
	}
	if a := validate(strings.Replace(text, "threshold: 2", "threshold: 0", 1)); a.Valid || len(a.Errors) != 1 || a.Errors[0].Line != 6 {
		t.Errorf("%+v", a)
	}
	if n := len(w.fraudEvents(w.fraud, events.RuleDefined)); n != 1 {
		t.Errorf("%d definitions, want that of the book alone", n)
	}
}

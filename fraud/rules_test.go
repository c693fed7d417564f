package fraud_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/rule"
)

// ruleEvents tells what happened to rules, in order.
func (w *world) ruleEvents() string {
	w.Helper()
	var told []string
	for e, err := range log.Events(w.Context(), w.fraud, 0, 0) {
		if err != nil {
			w.Fatal(err)
		}
		switch e.Type {
		case events.RuleDefined:
			d, err := events.Unmarshal[events.RuleDefinition](e)
			if err != nil {
				w.Fatal(err)
			}
			told = append(told, "defined "+d.Mode)
		case events.RuleModeChanged:
			m, err := events.Unmarshal[events.RuleMode](e)
			if err != nil {
				w.Fatal(err)
			}
			told = append(told, m.From+" to "+m.To+" by "+m.By)
		}
	}
	return strings.Join(told, ", ")
}

func TestRulesAreDefinedOnceAndWhenTheyChange(t *testing.T) {
	w := newWorld(t)
	w.post(likes(user(1), 1, start)...) // something to catch up with
	r := likesRule("three-likes", 3, 40)
	step := func(why, want string) {
		t.Helper()
		w.run(r).stop()
		if got := w.ruleEvents(); got != want {
			t.Fatalf("%s: %s, want %s", why, got, want)
		}
	}
	step("the first start", "defined live")
	step("another start", "defined live")
	r.Cases = []rule.Case{{Name: "n", History: []rule.Step{{Type: rule.Like, Targets: 1, First: 1, Times: 1}}}}
	step("another case", "defined live")
	r.Threshold = 4
	step("another threshold", "defined live, defined live")
	r.Mode = rule.Shadow
	step("another mode", "defined live, defined live, live to shadow by rulebook")

	// A mode that a person has set stays, whatever the book says.
	stream, err := log.ReadStream(t.Context(), w.fraud, w.fraudEvents(w.fraud, events.RuleDefined)[0].Stream)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(events.RuleMode{Rule: r.ID, From: "shadow", To: "retired", By: "anna"})
	if err != nil {
		t.Fatal(err)
	}
	e := events.Event{ID: uuid.New(), Type: events.RuleModeChanged, Stream: stream[0].Stream, Version: uint64(len(stream) + 1), OccurredAt: start, Data: data}
	if _, err := w.fraud.Append(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	r.Mode = rule.Live
	before := "defined live, defined live, live to shadow by rulebook, shadow to retired by anna"
	step("the book's mode against a person's", before)
	r.Threshold = 3
	step("a new version of it", before+", defined retired")
	step("and again", before+", defined retired")

	s := w.run(r)
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	if items, _ := s.flags(""); len(items) != 0 {
		t.Errorf("a retired rule raised %+v", items)
	}
}

func TestARuleIsShownAsTheLogHasIt(t *testing.T) {
	w := newWorld(t)
	r := likesRule("three-likes", 3, 40)
	r.Cases = []rule.Case{{Name: "n", History: []rule.Step{{Type: rule.Like, Targets: 1, First: 1, Times: 1}}}}
	s := w.run(r)
	w.post(likes(user(1), 3, start)...)
	s.catchUp()
	var shown struct {
		rule.Rule
		Version   string
		DefinedAt string `json:"defined_at"`
		DefinedBy string `json:"defined_by"`
		Hits      int
		Flags     map[string]int
	}
	a := s.ask("GET", "/v1/moderation/rules/three-likes", "", moderator, "moderator").want(t, http.StatusOK)
	a.into(t, &shown)
	if shown.Rule.Version() != r.Version() || shown.Version != r.Version() || len(shown.Cases) != 1 || shown.Mode != rule.Live ||
		shown.DefinedBy != "rulebook" || shown.DefinedAt != "2026-03-01T12:00:00.123456Z" || shown.Hits != 1 || shown.Flags["open"] != 1 {
		t.Errorf("%s", a.body)
	}
	if !strings.Contains(string(a.body), `"window":{"sliding":"1h"}`) || a.header.Get("ETag") != `"1"` {
		t.Errorf("%s %s", a.header.Get("ETag"), a.body)
	}
}

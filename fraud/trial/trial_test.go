package trial_test

import (
	"strings"
	"testing"

	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/trial"
)

const likes = `id: three-likes
title: Three likes
events: [like]
window: {sliding: 10s}
aggregate: count
threshold: 3
score: 1
cases:
  - name: passes
    history:
      - {at: 1s, type: like, times: 3, every: 5s}
    expect: {fires_at: 11s}
  - name: steps are merged by time
    history:
      - {at: 2s, type: like, targets: 2, every: 10s}
      - {at: 1s, type: like}
      - {at: 11s, type: like}
    expect: {fires_at: [11s, 12s]} # at 11.5 s there are two
  - name: wrong time
    history:
      - {at: 1s, type: like, times: 3, every: 5s}
    expect: {fires_at: 12s}
  - name: wrongly silent
    history:
      - {at: 1s, type: like, times: 3, every: 5s}
    expect: silent
  - name: wrongly loud
    history:
      - {at: 1s, type: like, times: 3, every: 6s}
    expect: {fires_at: [1s, 2s]}
`

func TestACasePassesOnlyIfTheRuleFiresThenAndNeverElse(t *testing.T) {
	rules, err := rule.Parse([]byte(likes))
	if err != nil {
		t.Fatal(err)
	}
	results, err := trial.Run(rules[0])
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range results {
		lines = append(lines, r.String())
	}
	want := strings.Join([]string{
		"ok    passes",
		"ok    steps are merged by time",
		"FAIL  wrong time: fired at 11s, expected it to fire at 12s",
		"FAIL  wrongly silent: fired at 11s, expected it to fire never",
		"FAIL  wrongly loud: fired never, expected it to fire at 1s, 2s",
	}, "\n")
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestActorsDoAStepOneAfterTheOtherAndFireOnceAtATime(t *testing.T) {
	rules, err := rule.Parse([]byte(`id: three-together
title: Three together
events: [like]
window: {sliding: 1h}
aggregate: lockstep
lockstep: {targets: 2}
threshold: 3
score: 1
cases:
  - name: in turn
    history:
      - {at: 1s, type: like, actors: 3, targets: 2, every: 10s}
    expect: {fires_at: 51s}
  - name: the same accounts in two steps
    history:
      - {at: 1s, type: like, actors: 2, first_actor: 5, targets: 2}
      - {at: 2s, type: like, actors: 3, first_actor: 4, first: 2}
      - {at: 3s, type: like, first_actor: 4}
    expect: {fires_at: 3s}
  - name: others in two steps
    history:
      - {at: 1s, type: like, actors: 2, first_actor: 5, targets: 2}
      - {at: 2s, type: like, actors: 2, first_actor: 7, targets: 2, first: 3}
    expect: silent
`))
	if err != nil {
		t.Fatal(err)
	}
	results, err := trial.Run(rules[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.Passed() {
			t.Error(r)
		}
	}
}

func TestAnInvalidRuleIsNotRun(t *testing.T) {
	if _, err := trial.Run(rule.Rule{ID: "x", Cases: []rule.Case{{Name: "n"}}}); err == nil {
		t.Error("it was run")
	}
}

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

func TestAStepSaysHowItsTargetsStand(t *testing.T) {
	rules, err := rule.Parse([]byte(`id: hidden-newcomers
title: Visits hidden accounts that are young
events: [visit]
where: {target_age: {at_least: 1h, below: 2h}, target_state: hidden}
window: {sliding: 1d}
aggregate: count
threshold: 2
score: 1
cases:
  - name: both bounds, the first included
    history:
      - {at: 3d, type: visit, times: 2, every: 59m59s, target_age: 1h, target_state: hidden}
    expect: {fires_at: 3d59m59s}
  - name: the second one is too old by then
    history:
      - {at: 3d, type: visit, times: 2, every: 1h, target_age: 1h, target_state: hidden}
    expect: silent
  - name: too young
    history:
      - {type: visit, times: 2, target_age: 59m59s, target_state: hidden}
    expect: silent
  - name: visible, as no state says
    history:
      - {type: visit, times: 2, target_age: 1h}
    expect: silent
  - name: made at that moment, as no age says, and an hour old later
    history:
      - {type: visit, times: 3, every: 1h, target_state: hidden}
    expect: silent
  - name: nothing is known
    history:
      - {type: visit, times: 2}
    expect: silent
---
id: visible
title: Visits visible accounts
events: [visit]
where: {target_state: visible}
window: {sliding: 1d}
aggregate: count
threshold: 2
score: 1
cases:
  - name: visible, said or not
    history:
      - {type: visit, target_state: visible}
      - {at: 1s, type: visit, target_age: 0s}
    expect: {fires_at: 1s}
  - name: hidden
    history:
      - {type: visit, times: 2, target_state: hidden}
    expect: silent
  - name: nothing is known
    history:
      - {type: visit, times: 2}
    expect: silent
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		results, err := trial.Run(r)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if !r.Passed() {
				t.Error(r)
			}
		}
	}
}

func TestAnInvalidRuleIsNotRun(t *testing.T) {
	if _, err := trial.Run(rule.Rule{ID: "x", Cases: []rule.Case{{Name: "n"}}}); err == nil {
		t.Error("it was run")
	}
}

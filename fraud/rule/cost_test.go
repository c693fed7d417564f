package rule_test

import (
	"strings"
	"testing"

	"github.com/meet5/backend/fraud/rule"
)

func TestTheCostOfARuleFollowsFromWhatItKeeps(t *testing.T) {
	base := rule.Rule{Threshold: 100}
	for name, c := range map[string]struct {
		change  func(*rule.Rule)
		entries int
	}{
		"count":      {func(r *rule.Rule) { r.Aggregate = rule.Count }, 100},
		"distinct":   {func(r *rule.Rule) { r.Aggregate = rule.Distinct }, 100},
		"each":       {func(r *rule.Rule) { r.Aggregate, r.Reading = rule.PairedDistinct, rule.Each }, 200},
		"both":       {func(r *rule.Rule) { r.Aggregate, r.Reading = rule.PairedDistinct, rule.Both }, 12_800},
		"both, most": {func(r *rule.Rule) { r.Aggregate, r.Reading, r.Threshold = rule.PairedDistinct, rule.Both, 10_000 }, 40_000},
		"ratio":      {func(r *rule.Rule) { r.Aggregate, r.Ratio = rule.InRatio, &rule.Ratio{Volume: 500} }, 500},
		"regularity": {func(r *rule.Rule) { r.Aggregate = rule.InRegularity }, 101},
		"sequence":   {func(r *rule.Rule) { r.Aggregate = rule.InSequence }, 6_600},
		"lockstep":   {func(r *rule.Rule) { r.Aggregate, r.Lockstep = rule.InLockstep, &rule.Lockstep{Targets: 3} }, 320},
		"repeated":   {func(r *rule.Rule) { r.Aggregate, r.Where.Target = rule.Count, rule.Repeated }, 6_500},
	} {
		r := base
		c.change(&r)
		if got := r.Cost(); got.Entries != c.entries || got.Bytes < 16*c.entries {
			t.Errorf("%s: %+v, want %d entries", name, got, c.entries)
		}
	}
}

func TestRulesThatCostTooMuchTogetherAreRefused(t *testing.T) {
	r := rule.Rule{Aggregate: rule.PairedDistinct, Reading: rule.Both, Threshold: rule.MaxThreshold}
	var rules []rule.Rule
	for range 12 {
		rules = append(rules, r)
	}
	if err := rule.CheckCost(rules); err != nil {
		t.Errorf("12 rules: %v", err)
	}
	if err := rule.CheckCost(append(rules, r)); err == nil || !strings.Contains(err.Error(), "520000 events of one user") {
		t.Errorf("13 rules: %v", err)
	}
}

package cost_test

import (
	"testing"
	"time"

	"github.com/meet5/backend/fraud/cost"
	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/rulebook"
)

func TestEveryShippedRuleCanBeMeasured(t *testing.T) {
	rules, err := rulebook.Rules()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		took, err := cost.Measure(r)
		if err != nil || took <= 0 || took > time.Second {
			t.Errorf("%s: %v, %v", r.ID, took, err)
		}
	}
	if _, err := cost.Measure(rule.Rule{ID: "no-rule"}); err == nil {
		t.Error("what is no rule was measured")
	}
}

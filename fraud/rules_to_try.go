package fraud

import (
	"errors"
	"fmt"

	"github.com/meet5/backend/fraud/rule"
)

// ruleByID is a rule as the log has it.
func (s *Service) ruleByID(id string) (rule.Rule, error) {
	known, ok := s.rules.Get(id)
	if !ok {
		return rule.Rule{}, errors.New("there is no rule with this id")
	}
	if known.Fault != nil {
		return rule.Rule{}, fmt.Errorf("the rule cannot be read: %w", known.Fault)
	}
	return known.Spec, nil
}

// rulesThatRun are those that are live or in shadow, by ID.
func (s *Service) rulesThatRun() (rules []rule.Rule) {
	known, _ := s.rules.All()
	for _, k := range known {
		if k.Runs() {
			rules = append(rules, k.Spec)
		}
	}
	return rules
}

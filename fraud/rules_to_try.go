package fraud

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/meet5/backend/fraud/rule"
)

// ruleByID is a rule as the log has it.
func (s *Service) ruleByID(id string) (rule.Rule, error) {
	known, ok := s.rules.get(id)
	if !ok {
		return rule.Rule{}, errors.New("there is no rule with this id")
	}
	var r rule.Rule
	if err := json.Unmarshal(known.spec, &r); err != nil {
		return rule.Rule{}, fmt.Errorf("the rule cannot be read: %w", err)
	}
	r.Mode = known.mode
	if err := r.Validate(); err != nil {
		return rule.Rule{}, fmt.Errorf("the rule is not valid in this build: %w", err)
	}
	return r, nil
}

// rulesThatRun are those that are live or in shadow, by ID.
func (s *Service) rulesThatRun() (rules []rule.Rule) {
	for _, k := range s.rules.list() {
		if k.mode != rule.Live && k.mode != rule.Shadow {
			continue
		}
		if r, err := s.ruleByID(k.id); err == nil {
			rules = append(rules, r)
		}
	}
	return rules
}

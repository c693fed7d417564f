// Package rulebook is the rules that ship with the service: one YAML file each,
// beside this one, with the cases that show when it fires and when it does not.
//
// A new rule is one file and one line in the list.
package rulebook

import (
	"embed"
	"fmt"

	"github.com/meet5/backend/fraud/rule"
)

//go:embed *.yaml
var files embed.FS

// names are the rules' IDs, sorted.
var names = []string{
	"first-day-reach",
	"instant-likes",
	"like-churn",
	"like-storm",
	"likes-nearly-everyone",
	"likes-taken-back",
	"lockstep-ring",
	"meet5-first-minutes",
	"newcomer-likes",
	"newcomers-burst",
	"night-shift",
	"robot-cadence",
	"same-people-again",
	"visit-scraping",
}

// Rules returns the shipped rules, sorted by ID. It fails if one of them has a
// fault, which this package's tests rule out.
func Rules() ([]rule.Rule, error) {
	rules := make([]rule.Rule, len(names))
	for i, name := range names {
		text, err := files.ReadFile(name + ".yaml")
		if err != nil {
			return nil, fmt.Errorf("read the rule book: %w", err)
		}
		read, err := rule.Parse(text)
		if err != nil {
			return nil, fmt.Errorf("rule book: %s.yaml: %w", name, err)
		}
		if len(read) != 1 || read[0].ID != name {
			return nil, fmt.Errorf("rule book: %s.yaml must hold the rule %s alone", name, name)
		}
		rules[i] = read[0]
	}
	return rules, nil
}

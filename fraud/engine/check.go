package engine

import (
	"fmt"
	"slices"

	"github.com/meet5/backend/fraud/rule"
)

// Split parts rules into those of an engine over one partition and those that need an
// engine over all of them, each in their order.
func Split(rules []rule.Rule) (byActor, ordered []rule.Rule) {
	for _, r := range rules {
		if r.Ordered() {
			ordered = append(ordered, r)
		} else {
			byActor = append(byActor, r)
		}
	}
	return byActor, ordered
}

// Check says what keeps rules from running together: one that is not valid, or two with
// one ID.
func Check(rules []rule.Rule) error {
	for i, r := range rules {
		if slices.ContainsFunc(rules[:i], func(other rule.Rule) bool { return other.ID == r.ID }) {
			return fmt.Errorf("another rule has the id %s", r.ID)
		}
	}
	byActor, ordered := Split(rules)
	if _, err := New(byActor); err != nil {
		return err
	}
	_, err := NewOrdered(NewUsers(), ordered, 1)
	return err
}

package register

import (
	"fmt"
	"strconv"

	"github.com/meet5/backend/fraud/diff"
	"github.com/meet5/backend/fraud/rule"
)

// Find is the number, from 1, of the version that somebody means: a number, or a hash,
// of which the latest version is meant that has it; otherwise the given one if they say
// nothing.
func (k Rule) Find(name string, otherwise int) (number int, err error) {
	if name == "" && otherwise >= 1 && otherwise <= len(k.Versions) {
		return otherwise, nil
	}
	for n := len(k.Versions); n >= 1; n-- {
		if name == k.Versions[n-1].Hash || name == strconv.Itoa(n) {
			return n, nil
		}
	}
	return 0, fmt.Errorf("must be a version's number, from 1 to %d, or its hash", len(k.Versions))
}

// Difference is how two versions of a rule differ.
type Difference struct {
	// Text is a unified diff of the rule as YAML; empty if nothing differs.
	Text string
	// Fields are those that differ, in the order in which a rule is written.
	Fields []FieldDiff
}

// Diff compares two of the rule's versions, by their numbers from 1. Modes are left
// out: a version has none of its own.
func (k Rule) Diff(from, to int) (Difference, error) {
	var rules [2]rule.Rule
	var texts [2]string
	for i, n := range []int{from, to} {
		r, err := k.Versions[n-1].Read(k.ID)
		if err != nil {
			return Difference{}, fmt.Errorf("this build cannot read version %d: %w", n, err)
		}
		r.Mode = ""
		text, err := YAML(r)
		if err != nil {
			return Difference{}, err
		}
		rules[i], texts[i] = r, string(text)
	}
	name := func(n int) string { return fmt.Sprintf("%s version %d (%s)", k.ID, n, k.Versions[n-1].Hash) }
	fields, err := compare(rules[0], rules[1])
	return Difference{diff.Unified(name(from), name(to), texts[0], texts[1]), fields}, err
}

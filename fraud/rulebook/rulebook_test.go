package rulebook_test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/meet5/backend/fraud/rule"
	"github.com/meet5/backend/fraud/rulebook"
	"github.com/meet5/backend/fraud/trial"
)

func rules(t *testing.T) []rule.Rule {
	t.Helper()
	rules, err := rulebook.Rules()
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestEveryRuleDoesAsItsCasesSay(t *testing.T) {
	for _, r := range rules(t) {
		t.Run(r.ID, func(t *testing.T) {
			results, err := trial.Run(r)
			if err != nil {
				t.Fatal(err)
			}
			fires, silent := false, false
			for _, result := range results {
				if !result.Passed() {
					t.Error(result)
				}
				fires = fires || len(result.Want) > 0
				silent = silent || len(result.Want) == 0
			}
			if !fires || !silent {
				t.Errorf("it needs a case in which it fires and one in which it is silent")
			}
			if r.Description == "" {
				t.Error("it has no description")
			}
		})
	}
}

func TestEveryFileIsListedInOrder(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var there, listed []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), ".yaml"); ok {
			there = append(there, name)
		}
	}
	for _, r := range rules(t) {
		listed = append(listed, r.ID)
	}
	if !slices.Equal(there, listed) || !slices.IsSorted(listed) {
		t.Errorf("files %v, listed %v", there, listed)
	}
}

func TestMeet5sRuleIsLiveAndReadsBoth(t *testing.T) {
	for _, r := range rules(t) {
		if r.ID == "meet5-first-minutes" {
			if r.Mode != rule.Live || r.Reading != rule.Both || r.Threshold != 100 || r.Effect != rule.Flag {
				t.Errorf("%+v", r)
			}
			return
		}
	}
	t.Error("it is not in the book")
}

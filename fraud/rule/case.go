package rule

import (
	"encoding/json"
	"fmt"
)

// Bounds of a rule's cases.
const (
	maxCases = 100
	maxSteps = 100
	// maxCaseEvents bounds the events of all cases of a rule together, so that
	// testing a rule takes well under a second.
	maxCaseEvents = 200_000
)

// Case is an account's history and what the rule must make of it: of a rule by target,
// what others do to it; of lockstep, the history of several accounts.
type Case struct {
	Name string `json:"name"`
	// AccountAge is how old the account is, or those who act are, when the history begins.
	AccountAge Duration `json:"account_age,omitempty"`
	History    []Step   `json:"history"`
	Expect     Expect   `json:"expect"`
}

// Step is a run of like events: the i-th of Times, from 0, happens Every times i
// after At, to target number First plus i modulo Targets. If there are Actors, each does
// all of it in turn, and the next goes on where the one before has ended.
type Step struct {
	// At is from the history's beginning.
	At   Duration `json:"at"`
	Type Kind     `json:"type"`
	// Targets is how many different users it goes through; 1 if left out.
	Targets int `json:"targets"`
	// First is the number of the first of them; 1 if left out. The same numbers
	// in two steps are the same users.
	First int `json:"first"`
	// Times is the number of events; Targets if left out.
	Times int      `json:"times"`
	Every Duration `json:"every,omitempty"`
	// Actors is how many accounts do it, and FirstActor the number of the first of them,
	// both from 1 on; 0 stands for 1. The same numbers in two steps are the same accounts,
	// which are none of the targets.
	Actors     int `json:"actors,omitempty"`
	FirstActor int `json:"first_actor,omitempty"`
}

// orOne is a number that is 1 if it was left out.
func orOne(n int) int {
	if n == 0 {
		return 1
	}
	return n
}

// Events are how many events the step makes.
func (s Step) Events() int { return s.Times * orOne(s.Actors) }

// Event is when the step's n-th event happens, from 0, and the numbers of its actor and
// target.
func (s Step) Event(n int) (at Duration, actor, target int) {
	return s.At + Duration(n)*s.Every, orOne(s.FirstActor) + n/s.Times, s.First + n%s.Times%s.Targets
}

// Expect is when the rule must fire, and no other time; never, if it is silent. When
// several users are hit at once it fires once.
type Expect struct {
	// FiresAt is from the history's beginning, in order.
	FiresAt []Duration
}

type firing struct {
	FiresAt []Duration `json:"fires_at"`
}

const silent = "silent"

// MarshalJSON writes "silent" or {"fires_at": […]}.
func (e Expect) MarshalJSON() ([]byte, error) {
	if len(e.FiresAt) == 0 {
		return json.Marshal(silent)
	}
	return json.Marshal(firing(e))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (e *Expect) UnmarshalJSON(b []byte) error {
	if string(b) == `"`+silent+`"` {
		e.FiresAt = nil
		return nil
	}
	var f firing
	if err := json.Unmarshal(b, &f); err != nil {
		return fmt.Errorf("expect: want %q or {fires_at: […]}: %w", silent, err)
	}
	*e = Expect(f)
	return nil
}

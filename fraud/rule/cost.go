package rule

import "fmt"

const (
	// waitingTimes is how many times the threshold a rule remembers of targets of which
	// one half of what it looks for has happened, and waitingMost bounds that, or twice
	// the threshold, if that is more.
	waitingTimes = 64
	waitingMost  = 16_384
	// bytesPerEntry is what an event takes in the engine's state at most: 16 bytes, 6
	// for finding it, and half of them again for room to grow.
	bytesPerEntry = 33
)

// Waiting is how many targets of a kind the rule remembers that wait for something else
// to happen.
func (r Rule) Waiting() int {
	return min(waitingTimes*r.Threshold, max(waitingMost, 2*r.Threshold))
}

// Cost is what a rule may cost at most. An event costs about the same time whatever the
// threshold is, so that what has to be bounded is the number of rules that run and what
// they keep.
type Cost struct {
	// Entries are the events that are kept of one key; of lockstep, those of one user, as
	// a target and as an actor.
	Entries int `json:"entries"`
	// Bytes are what they take of memory.
	Bytes int `json:"bytes"`
}

// MaxCost bounds the rules that run together.
var MaxCost = Cost{Entries: 500_000, Bytes: 500_000 * bytesPerEntry}

// Cost is what the rule may cost at most for one key. What it shares with other rules
// is counted.
func (r Rule) Cost() Cost {
	n := r.Threshold
	switch r.Aggregate {
	case PairedDistinct:
		if r.Reading == Both {
			n = r.Waiting()
		}
		n *= 2
	case InRatio:
		n = r.Ratio.Volume
	case InRegularity:
		n++
	case InLockstep:
		n = LockstepAccounts + LockstepTargets
	case InSequence:
		n = r.Waiting() + 2*r.Threshold
	}
	if r.Where.Target != "" {
		n += r.Waiting()
	}
	return Cost{Entries: n, Bytes: n * bytesPerEntry}
}

// CheckCost says whether rules may run together, or what they would cost.
func CheckCost(rules []Rule) error {
	var sum Cost
	for _, r := range rules {
		c := r.Cost()
		sum.Entries, sum.Bytes = sum.Entries+c.Entries, sum.Bytes+c.Bytes
	}
	if sum.Entries > MaxCost.Entries {
		return fmt.Errorf("the rules may keep %d events of one user (%d MB), at most %d are allowed: lower thresholds, or run fewer rules", sum.Entries, sum.Bytes/1e6, MaxCost.Entries)
	}
	return nil
}

package backtest

import (
	"bytes"
	"slices"

	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/rule"
)

// Comparison sets the users that the rule hits against others. The lists hold the
// first of each, sorted.
type Comparison struct {
	// Newly are hit and not among the others, NoLonger are among them and not hit,
	// Still are both.
	Newly         int         `json:"newly"`
	NoLonger      int         `json:"no_longer"`
	Still         int         `json:"still"`
	NewlyUsers    []uuid.UUID `json:"newly_users,omitempty"`
	NoLongerUsers []uuid.UUID `json:"no_longer_users,omitempty"`
}

// RunningVersion is the version of a rule that runs, tried beside it: over the same
// period, also where it did not run yet.
type RunningVersion struct {
	Version string    `json:"version"`
	Mode    rule.Mode `json:"mode"`
	Hits    uint64    `json:"hits"`
	Users   int       `json:"users"`
	Comparison
}

func compare(users, others map[uuid.UUID]struct{}, sample int) Comparison {
	var c Comparison
	for u := range others {
		if _, hit := users[u]; hit {
			c.Still++
		} else {
			c.NoLongerUsers = append(c.NoLongerUsers, u)
		}
	}
	for u := range users {
		if _, known := others[u]; !known {
			c.NewlyUsers = append(c.NewlyUsers, u)
		}
	}
	c.Newly, c.NoLonger = len(c.NewlyUsers), len(c.NoLongerUsers)
	c.NewlyUsers, c.NoLongerUsers = firstUsers(c.NewlyUsers, sample), firstUsers(c.NoLongerUsers, sample)
	return c
}

func firstUsers(users []uuid.UUID, most int) []uuid.UUID {
	slices.SortFunc(users, func(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) })
	return users[:min(most, len(users))]
}

// onRecord compares with the flags on record.
func onRecord(users map[uuid.UUID]struct{}, flagged []uuid.UUID, sample int) *Comparison {
	on := make(map[uuid.UUID]struct{}, len(flagged))
	for _, u := range flagged {
		on[u] = struct{}{}
	}
	c := compare(users, on, sample)
	return &c
}

// running compares with the version of a tried rule that runs; nil if none does.
func (b *backtest) running(t tried, i int, hits uint64, users map[uuid.UUID]struct{}) *RunningVersion {
	runs, ok := b.Record.Running[b.rules[i].ID]
	if !ok {
		return nil
	}
	v := &RunningVersion{Version: runs.Version(), Mode: runs.Mode, Hits: hits}
	theirs := users // it is the very one that is tried
	if beside := t.running[i]; beside != nil {
		v.Hits, theirs = t.found(beside.at)
	}
	v.Users, v.Comparison = len(theirs), compare(users, theirs, b.Sample)
	return v
}

// found is how often a rule of the run hit, and whom. It may be asked once: what the
// partitions knew is let go of, lest every user be kept twice.
func (t tried) found(i int) (hits uint64, users map[uuid.UUID]struct{}) {
	users = make(map[uuid.UUID]struct{})
	for _, p := range t.partitions {
		hits += p.rules[i].hits
		for u := range p.rules[i].users {
			users[u] = struct{}{}
		}
		p.rules[i].users = nil
	}
	return hits, users
}

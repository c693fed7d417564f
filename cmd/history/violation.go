package history

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// NoPartition is the Partition of a violation that is not about one partition.
const NoPartition = -1

// mostShown is how many violations of one rule are listed for one partition. Each
// costs a look into the log, and whoever reads them has understood by then.
const mostShown = 5

// Violation is one broken promise.
type Violation struct {
	Rule Rule   `json:"rule"`
	Log  string `json:"log"`
	// Partition is NoPartition if it is about more than one.
	Partition int `json:"partition"`
	// Message says what is wrong, in one line.
	Message string `json:"message"`
	// Evidence are the calls, log entries and deliveries that show it, a line
	// each, and none that are not needed.
	Evidence []string `json:"evidence"`
	// More is how many others of the same rule, log and partition are left out
	// after this one.
	More int `json:"more,omitempty"`
}

func (v Violation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s: %s", v.Rule, place(v.Log, v.Partition), v.Message)
	for _, line := range v.Evidence {
		b.WriteString("\n  ")
		b.WriteString(line)
	}
	if v.More > 0 {
		fmt.Fprintf(&b, "\n  and %d more of this kind in %s", v.More, place(v.Log, v.Partition))
	}
	return b.String()
}

// Count is how many violations of the rule there are, with those left out.
func Count(vs []Violation, rule Rule) int {
	n := 0
	for _, v := range vs {
		if v.Rule == rule {
			n += 1 + v.More
		}
	}
	return n
}

func place(log string, partition int) string {
	if partition == NoPartition {
		return log
	}
	return fmt.Sprintf("%s/%d", log, partition)
}

// findings gathers violations, a few of each kind.
type findings struct {
	list []Violation
	last map[kind]int // place in list of the last one that is shown
	seen map[kind]int
}

type kind struct {
	rule      Rule
	log       string
	partition int
}

func newFindings() *findings {
	return &findings{last: make(map[kind]int), seen: make(map[kind]int)}
}

// add takes a violation. Its words are asked for only if it is shown.
func (f *findings) add(rule Rule, log string, partition int, words func() (message string, evidence []string)) {
	k := kind{rule, log, partition}
	f.seen[k]++
	if f.seen[k] > mostShown {
		f.list[f.last[k]].More++
		return
	}
	message, evidence := words()
	f.last[k] = len(f.list)
	f.list = append(f.list, Violation{Rule: rule, Log: log, Partition: partition, Message: message, Evidence: evidence})
}

// sorted lists the gravest first, and those of one kind as they were found.
func (f *findings) sorted() []Violation {
	slices.SortStableFunc(f.list, func(a, b Violation) int {
		return cmp.Or(cmp.Compare(a.Rule.gravity(), b.Rule.gravity()), cmp.Compare(a.Log, b.Log), cmp.Compare(a.Partition, b.Partition))
	})
	return f.list
}

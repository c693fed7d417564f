package history

import "slices"

// Rule is a promise that a history can break. Its text is its name in reports.
type Rule string

// The rules, the gravest first.
const (
	// Lost: acknowledged, and not in the log, or not where it was acknowledged.
	Lost Rule = "lost"
	// RefusedButWritten: refused with a conflict, and in the log.
	RefusedButWritten Rule = "refused but written"
	// Repeated: one ID twice in a log, or acknowledged at two positions.
	Repeated Rule = "repeated"
	// Torn: only a part of one append is in the log, or it is in two commits.
	Torn Rule = "torn"
	// Version: a stream's versions are not 1, 2, 3 … in order, or one was
	// acknowledged to two.
	Version Rule = "version"
	// Claim: one claim held by two events of a partition, or acknowledged to two.
	Claim Rule = "claim"
	// Disordered: an event stands before one that was acknowledged before it was
	// asked for, or the events of one append are not in their order in one run.
	Disordered Rule = "disordered"
	// Misplaced: an event in a partition that is not its stream's.
	Misplaced Rule = "misplaced"
	// Sparse: sequences that are not 1, 2, 3 …, or recorded time that runs
	// backwards.
	Sparse Rule = "sparse"
	// Unasked: an event in the log that nobody asked for.
	Unasked Rule = "unasked"
	// Foreign: a subscriber was handed what the log does not hold there.
	Foreign Rule = "foreign"
	// Gap: a subscriber was handed an event before its predecessor.
	Gap Rule = "gap"
	// Redelivered: a subscriber was handed an event again without a restart.
	Redelivered Rule = "redelivered"
	// Undelivered: a subscriber that should be complete was not handed all.
	Undelivered Rule = "undelivered"
	// ReadModel: a list or number of a user is not what the log folds to.
	ReadModel Rule = "read model"
)

// Rules lists every rule, the gravest first.
func Rules() []Rule {
	return []Rule{
		Lost, RefusedButWritten, Repeated, Torn, Version, Claim, Disordered, Misplaced,
		Sparse, Unasked, Foreign, Gap, Redelivered, Undelivered, ReadModel,
	}
}

// gravity is the rule's place in Rules.
func (r Rule) gravity() int { return slices.Index(Rules(), r) }

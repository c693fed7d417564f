package engine

// entry is an event as state keeps it, in 16 bytes: its time in 52 bits, its sequence
// in 40, its target's number in 27, its kind in 2, and 7 that say by which rules' lights
// its target has been seen again since.
type entry struct{ high, low uint64 }

const (
	timeBits     = 52
	sequenceBits = 40
	targetBits   = 27
	kindBits     = 2
	seenBits     = 7

	// latestTime is the last time that an entry can have, in microseconds since 1970:
	// in the year 2112.
	latestTime = 1<<timeBits - 1
	// maxSequence and maxTarget bound a partition and the number of users: a million
	// million events, and 134 million.
	maxSequence = 1<<sequenceBits - 1
	maxTarget   = 1<<targetBits - 1

	// Part of the sequence stands beside the time.
	highBits = 64 - timeBits
	lowBits  = sequenceBits - highBits
	atKind   = seenBits
	atTarget = atKind + kindBits
	atLow    = atTarget + targetBits
)

func newEntry(s *sighting) entry {
	return entry{
		high: uint64(s.at)<<highBits | s.sequence>>lowBits&(1<<highBits-1), //nolint:gosec // from 0 to latestTime
		low:  s.sequence<<atLow | uint64(s.target)<<atTarget | uint64(s.kind)<<atKind,
	}
}

func (e entry) at() int64        { return int64(e.high >> highBits) } //nolint:gosec // 52 bits
func (e entry) sequence() uint64 { return e.high&(1<<highBits-1)<<lowBits | e.low>>atLow }
func (e entry) target() uint32   { return uint32(e.low >> atTarget & maxTarget) } //nolint:gosec // 27 bits
func (e entry) kind() kind       { return kind(e.low >> atKind & (1<<kindBits - 1)) }

// whose is the target and the kind.
func (e entry) whose() uint64 { return e.low >> atKind & (1<<(targetBits+kindBits) - 1) }

// again says whether the target has been seen again, by the set's lights.
func (e entry) again(set uint8) bool { return e.low>>set&1 != 0 }

func (e *entry) markAgain(set uint8) { e.low |= 1 << set }

func (e *entry) setTarget(target uint32) {
	e.low = e.low&^(maxTarget<<atTarget) | uint64(target)<<atTarget
}

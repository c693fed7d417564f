package engine

// entry is an event as state keeps it, in 16 bytes: its time in 52 bits, its place in the
// log in 40, the number of the user on the other side from the key in 27, its kind in 2,
// and 7 that say by which rules' lights that user has been seen again since.
type entry struct{ high, low uint64 }

const (
	timeBits  = 52
	placeBits = 40
	userBits  = 27
	kindBits  = 2
	seenBits  = 7

	// latestTime is the last time that an entry can have, in microseconds since 1970:
	// in the year 2112.
	latestTime = 1<<timeBits - 1
	// maxPlace and maxUser bound what an engine reads, a million million events, and
	// the number of users, 134 million.
	maxPlace = 1<<placeBits - 1
	maxUser  = 1<<userBits - 1

	// Part of the place stands beside the time.
	highBits = 64 - timeBits
	lowBits  = placeBits - highBits
	atKind   = seenBits
	atUser   = atKind + kindBits
	atLow    = atUser + userBits
)

func newEntry(s *sighting) entry {
	return entry{
		high: uint64(s.at)<<highBits | s.place>>lowBits&(1<<highBits-1), //nolint:gosec // from 0 to latestTime
		low:  s.place<<atLow | uint64(s.other)<<atUser | uint64(s.kind)<<atKind,
	}
}

func (e entry) at() int64     { return int64(e.high >> highBits) } //nolint:gosec // 52 bits
func (e entry) place() uint64 { return e.high&(1<<highBits-1)<<lowBits | e.low>>atLow }
func (e entry) other() uint32 { return uint32(e.low >> atUser & maxUser) } //nolint:gosec // 27 bits
func (e entry) kind() kind    { return kind(e.low >> atKind & (1<<kindBits - 1)) }

// whose is the other user and the kind.
func (e entry) whose() uint64 { return e.low >> atKind & (1<<(userBits+kindBits) - 1) }

// again says whether the other user has been seen again, by the set's lights.
func (e entry) again(set uint8) bool { return e.low>>set&1 != 0 }

func (e *entry) markAgain(set uint8) { e.low |= 1 << set }

func (e *entry) setOther(other uint32) {
	e.low = e.low&^(maxUser<<atUser) | uint64(other)<<atUser
}

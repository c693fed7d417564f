package engine

// entry is an event as state keeps it, in 16 bytes: its time in 52 bits, its sequence
// in 44, and 32 that say what is to be known of it besides: its target's number or its
// kind.
type entry struct{ high, low uint64 }

const (
	// latestTime is the last time that an entry can have, in microseconds since 1970:
	// in the year 2112.
	latestTime = 1<<52 - 1
	// sequenceHigh is how many bits of the sequence stand beside the time.
	sequenceHigh = 12
)

func newEntry(at int64, sequence uint64, what uint32) entry {
	return entry{
		high: uint64(at)<<sequenceHigh | sequence>>32&(1<<sequenceHigh-1), //nolint:gosec // within 0 and latestTime
		low:  sequence<<32 | uint64(what),
	}
}

func (e entry) at() int64        { return int64(e.high >> sequenceHigh) } //nolint:gosec // 52 bits
func (e entry) sequence() uint64 { return e.high&(1<<sequenceHigh-1)<<32 | e.low>>32 }
func (e entry) what() uint32     { return uint32(e.low) } //nolint:gosec // the lower half
func (e entry) dead() entry      { return entry{e.high, e.low &^ (1<<32 - 1)} }

package history

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
)

// lane is what one subscriber was handed of one partition, in order.
type lane struct {
	handed  blocks[fingerprint]
	runs    []run
	highest uint64 // sequence that was handed
	// restarted says that the next run may begin anywhere up to highest+1.
	restarted bool
}

type laneKey struct {
	subscriber, log string
	partition       int
}

type completion struct{ subscriber, log string }

// run is a stretch of a lane whose sequences follow each other.
type run struct {
	first   uint64 // its first sequence
	at      int    // place of that in handed
	highest uint64 // of the lane before it
	// restart says that the subscriber was restarted before it.
	restart bool
}

// fingerprint tells events apart: the ID, and a digest of everything else. A
// million take 24 MB.
type fingerprint struct {
	id     uuid.UUID
	digest uint64
}

// Deliver notes that a subscriber's handler was handed an event of the log. Calls
// for one subscriber and partition are in the order of the handing over. Nothing
// of e is kept but a digest.
func (r *Recorder) Deliver(subscriber string, log string, e events.Recorded) {
	handed := r.fingerprint(&e)
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lane(subscriber, log, e.Partition)
	if l.restarted || len(l.runs) == 0 || l.next() != e.Sequence {
		l.runs = append(l.runs, run{first: e.Sequence, at: l.handed.len(), highest: l.highest, restart: l.restarted})
		l.restarted = false
	}
	l.handed.add(handed)
	l.highest = max(l.highest, e.Sequence)
	r.counts.Deliveries++
}

// Restart notes that the subscriber may, once, start again in the partition, from
// any sequence up to 1 + the highest that it was handed.
func (r *Recorder) Restart(subscriber string, log string, partition int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lane(subscriber, log, partition).restarted = true
}

// Complete says that the subscriber must have been handed the whole log by the
// time of the Check.
func (r *Recorder) Complete(subscriber string, log string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.complete[completion{subscriber, log}] = true
}

func (r *Recorder) lane(subscriber, log string, partition int) *lane {
	k := laneKey{subscriber, log, partition}
	l := r.lanes[k]
	if l == nil {
		l = new(lane)
		r.lanes[k] = l
	}
	return l
}

// next is the sequence after the last one handed.
func (l *lane) next() uint64 {
	last := l.runs[len(l.runs)-1]
	return last.first + uint64(l.handed.len()-last.at) //nolint:gosec // a length
}

// length is how many events the i-th run has.
func (l *lane) length(i int) int {
	if i+1 < len(l.runs) {
		return l.runs[i+1].at - l.runs[i].at
	}
	return l.handed.len() - l.runs[i].at
}

// fingerprint is the event's. The position is left out: it is compared by itself.
func (r *Recorder) fingerprint(e *events.Recorded) fingerprint {
	var h maphash.Hash
	h.SetSeed(r.seed)
	var fixed [40]byte
	copy(fixed[:16], e.Stream[:])
	binary.LittleEndian.PutUint64(fixed[16:], e.Version)
	binary.LittleEndian.PutUint64(fixed[24:], uint64(e.OccurredAt.UnixMicro())) //nolint:gosec // two's complement on purpose
	binary.LittleEndian.PutUint64(fixed[32:], uint64(e.RecordedAt.UnixMicro())) //nolint:gosec // two's complement on purpose
	h.Write(fixed[:])
	h.WriteString(e.Type)
	h.WriteByte(0)
	for _, c := range e.Claims {
		h.WriteString(c)
		h.WriteByte(0)
	}
	h.WriteByte(1)
	h.Write(e.Data)
	return fingerprint{e.ID, h.Sum64()}
}

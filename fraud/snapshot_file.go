package fraud

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/subscription"
)

// A snapshot of a partition is, with numbers little-endian:
//
//	magic, of 8 bytes, with the number of the format
//	length of the header, of 4 bytes, and the header, as JSON
//	CRC-32 (Castagnoli) of all before, of 4 bytes
//	what the partition's engine keeps, with a sum of its own (see engine.Snapshot)
const snapshotMagic = "m5lane01"

// maxSnapshotHeader bounds a header, in bytes. It holds the hits that are remembered.
const maxSnapshotHeader = 256 << 20

// snapshotName names a partition's snapshot.
func snapshotName(at subscription.Place) string { return fmt.Sprintf("%s-%d", at.Log, at.Partition) }

// snapshot is what is saved of a lane.
type snapshot struct {
	header snapshotHeader
	state  pages
}

// snapshotHeader says what a snapshot is of.
type snapshotHeader struct {
	Log        string `json:"log"`
	Partitions int    `json:"partitions"`
	Partition  int    `json:"partition"`
	// Sequence is the last event that is counted, and Event its ID: another log may have
	// the same name.
	Sequence uint64    `json:"sequence"`
	Event    uuid.UUID `json:"event"`
	TakenAt  time.Time `json:"taken_at"`
	// Rules are those of the engine, in its order.
	Rules []ruleShare `json:"rules"`
}

// ruleShare is what a rule has come to in a partition.
type ruleShare struct {
	ID          string `json:"id"`
	Version     string `json:"version"`
	Evaluations uint64 `json:"evaluations"`
	Hits        uint64 `json:"hits"`
	// Latest are those of the hits that are remembered of all partitions. One that will
	// be when all partitions have come as far again is among them: it was when less was
	// known.
	Latest []savedHit `json:"latest"`
}

// savedHit is a hit of the snapshot's partition.
type savedHit struct {
	User      uuid.UUID `json:"user"`
	At        int64     `json:"at"` // in microseconds since 1970
	Sequence  uint64    `json:"sequence"`
	Observed  int       `json:"observed"`
	Threshold int       `json:"threshold"`
	Rests     int       `json:"rests"`
	Evidence  []uint64  `json:"evidence"` // sequences
}

// shareOfRules is the lane's share of what rules have come to.
func (l *lane) shareOfRules() (list []ruleShare) {
	for _, r := range l.crew[0].engine.Rules() {
		s := l.share(r.ID)
		one := ruleShare{ID: r.ID, Version: r.Version, Evaluations: s.evaluations, Hits: s.hits}
		for _, h := range l.program.tallies[r.ID].of(l.at.Partition) {
			saved := savedHit{
				User: h.user, At: h.at.UnixMicro(), Sequence: h.position.Sequence,
				Observed: h.observed, Threshold: h.threshold, Rests: h.rests, Evidence: make([]uint64, len(h.evidence)),
			}
			for i, p := range h.evidence {
				saved.Evidence[i] = p.Sequence
			}
			one.Latest = append(one.Latest, saved)
		}
		list = append(list, one)
	}
	return list
}

// of is the hits of a partition that are remembered, in no order.
func (t *tally) of(partition int) (list []hit) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, h := range t.latest {
		if h.position.Partition == partition {
			list = append(list, h)
		}
	}
	return list
}

// count is what the share comes to in a partition.
func (s *ruleShare) count(partition int) *count {
	c := &count{evaluations: s.Evaluations, hits: s.Hits}
	for _, saved := range s.Latest {
		h := hit{
			user: saved.User, at: time.UnixMicro(saved.At).UTC(), position: events.Position{Partition: partition, Sequence: saved.Sequence},
			observed: saved.Observed, threshold: saved.Threshold, rests: saved.Rests, evidence: make([]events.Position, len(saved.Evidence)),
		}
		for i, sequence := range saved.Evidence {
			h.evidence[i] = events.Position{Partition: partition, Sequence: sequence}
		}
		c.latest = append(c.latest, h)
	}
	return c
}

// write writes the snapshot and says how many bytes it has.
func (s *snapshot) write(to io.Writer) (size int, err error) {
	header, err := json.Marshal(s.header)
	if err != nil {
		return 0, err
	}
	if len(header) > maxSnapshotHeader {
		return 0, errTooLarge
	}
	b := append(make([]byte, 0, len(header)+16), snapshotMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(header))) //nolint:gosec // bounded above
	b = append(b, header...)
	b = binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
	if _, err := to.Write(b); err != nil {
		return 0, err
	}
	if err := s.state.writeTo(to); err != nil {
		return 0, err
	}
	return len(b) + s.state.size, nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// readSnapshotHeader reads up to where the engine's part begins.
func readSnapshotHeader(from io.Reader) (h snapshotHeader, size int, err error) {
	b := make([]byte, len(snapshotMagic)+4)
	if _, err := io.ReadFull(from, b); err != nil {
		return h, 0, cutOff(err)
	}
	if string(b[:len(snapshotMagic)]) != snapshotMagic {
		return h, 0, unusable(fromOtherBuild, "it is of another build, or no snapshot")
	}
	length := binary.LittleEndian.Uint32(b[len(snapshotMagic):])
	if length > maxSnapshotHeader {
		return h, 0, unusable(fromDamaged, "its header has %d bytes", length)
	}
	// What is not there takes no memory, whatever the length says.
	rest, err := io.ReadAll(io.LimitReader(from, int64(length)+crc32.Size))
	if err == nil && len(rest) < int(length)+crc32.Size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return h, 0, cutOff(err)
	}
	header, sum := rest[:length], rest[length:]
	if crc32.Update(crc32.Checksum(b, castagnoli), castagnoli, header) != binary.LittleEndian.Uint32(sum) {
		return h, 0, unusable(fromDamaged, "its header is damaged")
	}
	if err := json.Unmarshal(header, &h); err != nil {
		return h, 0, unusable(fromOtherBuild, "its header cannot be read: %v", err)
	}
	return h, len(b) + len(rest), nil
}

// cutOff is for the error of a read.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return unusable(fromDamaged, "it is cut off")
	}
	return err
}

// errTooLarge says that a snapshot would be larger than MaxSnapshot.
var errTooLarge = errors.New("it would be too large")

// pages is a writer into memory that copies nothing twice, and holds so many bytes at
// most.
type pages struct {
	list       [][]byte
	size, most int
}

const pageSize = 1 << 20

// Write implements io.Writer.
func (p *pages) Write(b []byte) (n int, err error) {
	if len(b) > p.most-p.size {
		return 0, fmt.Errorf("%w: more than %d bytes", errTooLarge, p.most)
	}
	p.size += len(b)
	for n = len(b); len(b) > 0; {
		last := len(p.list) - 1
		if last < 0 || len(p.list[last]) == pageSize {
			p.list = append(p.list, make([]byte, 0, pageSize))
			continue
		}
		fits := min(len(b), pageSize-len(p.list[last]))
		p.list[last] = append(p.list[last], b[:fits]...)
		b = b[fits:]
	}
	return n, nil
}

func (p *pages) writeTo(to io.Writer) error {
	for _, page := range p.list {
		if _, err := to.Write(page); err != nil {
			return err
		}
	}
	return nil
}

package events

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Bounds of one commit.
const (
	// MaxCommitEvents is the largest number of events in one commit.
	MaxCommitEvents = 4096
	// MaxCommitBytes is the largest encoded commit. It leaves room below the
	// 16 MiB of a MongoDB document and of a default RabbitMQ message.
	MaxCommitBytes = 12 << 20
)

// The layout of an encoded commit, all integers big-endian:
//
//	 0  "M5C" and the format's version, 1
//	 4  CRC-32C of every byte from 8 on
//	 8  sequence of the first event, 8 bytes
//	16  recorded time, microseconds since 1970, 8 bytes
//	24  the writer's UUID
//	40  partition, 2 bytes
//	42  number of events, 4 bytes
//	46  the log's name, then the table of type names, then the events
//
// Names are a uvarint length and bytes; the table is a uvarint count and names.
// An event is a uvarint length and as many bytes: ID, stream, uvarint index into
// the table, uvarint version, varint of occurred minus recorded time in
// microseconds, uvarint number of claims and the claims, and the data.
const (
	formatVersion = 1
	maxTypes      = 64
	headerSize    = 46
	offSum        = 4
	offFirst      = 8
	offRecorded   = 16
	offWriter     = 24
	offPartition  = 40
	offCount      = 42
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// ErrCorrupt is what every decoding error wraps.
var ErrCorrupt = errors.New("not a whole, unharmed commit")

// Commit is a run of consecutive events of one partition that were made durable
// together. It is immutable and cheap to copy; its events are decoded as they
// are asked for.
type Commit struct {
	Log        string
	Partition  int
	First      uint64
	Count      int
	RecordedAt time.Time
	Writer     uuid.UUID

	types []string
	old   bool   // some of types are superseded
	body  []byte // the events
	raw   []byte // everything
}

// Last is the sequence of the commit's last event.
func (c Commit) Last() uint64 { return c.First + uint64(c.Count) - 1 } //nolint:gosec // Count is at least 1

// Bytes is the encoded commit. The caller must not change it.
func (c Commit) Bytes() []byte { return c.raw }

// Encode makes a commit of 1 to MaxCommitEvents valid events.
func Encode(log string, partition int, first uint64, recordedAt time.Time, writer uuid.UUID, evs []Event) (Commit, error) {
	if len(evs) == 0 || len(evs) > MaxCommitEvents {
		return Commit{}, fmt.Errorf("encode commit of %s/%d: %d events, want 1 to %d", log, partition, len(evs), MaxCommitEvents)
	}
	if partition < 0 || partition > 0xffff {
		return Commit{}, fmt.Errorf("encode commit of %s/%d: partition out of range", log, partition)
	}
	types := make([]string, 0, 4)
	size := headerSize + len(log) + 32
	for i := range evs {
		size += 64 + len(evs[i].Data)
	}
	b := make([]byte, headerSize, size)
	b = appendName(b, log)
	for i := range evs {
		if indexOf(types, evs[i].Type) < 0 {
			types = append(types, evs[i].Type)
		}
	}
	if len(types) > maxTypes {
		return Commit{}, fmt.Errorf("encode commit of %s/%d: %d event types, at most %d are allowed", log, partition, len(types), maxTypes)
	}
	b = binary.AppendUvarint(b, uint64(len(types)))
	for _, t := range types {
		b = appendName(b, t)
	}
	start := len(b)
	recorded := recordedAt.UnixMicro()
	for i := range evs {
		b = appendEvent(b, &evs[i], indexOf(types, evs[i].Type), recorded)
	}
	if len(b) > MaxCommitBytes {
		return Commit{}, fmt.Errorf("encode commit of %s/%d: %d bytes, at most %d are allowed", log, partition, len(b), MaxCommitBytes)
	}
	copy(b, "M5C")
	b[3] = formatVersion
	copy(b[offWriter:], writer[:])
	binary.BigEndian.PutUint64(b[offFirst:], first)
	binary.BigEndian.PutUint64(b[offRecorded:], uint64(recorded)) //nolint:gosec // two's complement on purpose
	binary.BigEndian.PutUint16(b[offPartition:], uint16(partition))
	binary.BigEndian.PutUint32(b[offCount:], uint32(len(evs))) //nolint:gosec // bounded above
	binary.BigEndian.PutUint32(b[offSum:], crc32.Checksum(b[offFirst:], castagnoli))
	return Commit{
		Log: log, Partition: partition, First: first, Count: len(evs),
		RecordedAt: time.UnixMicro(recorded).UTC(), Writer: writer,
		types: types, old: slices.ContainsFunc(types, IsSuperseded), body: b[start:], raw: b,
	}, nil
}

// EncodedSize is an upper bound of the bytes that the event adds to a commit.
func (e *Event) EncodedSize() int {
	n := 16 + 16 + 5*binary.MaxVarintLen64 + len(e.Type) + len(e.Data)
	for _, c := range e.Claims {
		n += binary.MaxVarintLen64 + len(c)
	}
	return n
}

func appendName(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendEvent(b []byte, e *Event, typ int, recorded int64) []byte {
	// The length comes first but is known last: write the event after the
	// longest length there can be, then close the gap.
	const room = 4
	at := len(b)
	b = append(b, make([]byte, room)...)
	b = append(b, e.ID[:]...)
	b = append(b, e.Stream[:]...)
	b = binary.AppendUvarint(b, uint64(typ)) //nolint:gosec // an index
	b = binary.AppendUvarint(b, e.Version)
	b = binary.AppendVarint(b, e.OccurredAt.UnixMicro()-recorded)
	b = binary.AppendUvarint(b, uint64(len(e.Claims)))
	for _, c := range e.Claims {
		b = appendName(b, c)
	}
	b = append(b, e.Data...)
	var length [binary.MaxVarintLen64]byte
	n := binary.PutUvarint(length[:], uint64(len(b)-at-room))
	copy(b[at:], length[:n])
	copy(b[at+n:], b[at+room:])
	return b[:len(b)-room+n]
}

func indexOf(types []string, t string) int {
	for i := range types {
		if types[i] == t {
			return i
		}
	}
	return -1
}

// Decode reads an encoded commit and checks it whole: format, checksum and the
// bounds of every event. The commit keeps b, which must not change afterwards.
func Decode(b []byte) (Commit, error) {
	if len(b) < headerSize || string(b[:3]) != "M5C" {
		return Commit{}, fmt.Errorf("%w: no commit header", ErrCorrupt)
	}
	if b[3] != formatVersion {
		return Commit{}, fmt.Errorf("%w: format version %d, this build reads %d", ErrCorrupt, b[3], formatVersion)
	}
	if len(b) > MaxCommitBytes {
		return Commit{}, fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrCorrupt, len(b), MaxCommitBytes)
	}
	if got, want := crc32.Checksum(b[offFirst:], castagnoli), binary.BigEndian.Uint32(b[offSum:]); got != want {
		return Commit{}, fmt.Errorf("%w: checksum %08x, stored %08x", ErrCorrupt, got, want)
	}
	c := Commit{
		First:      binary.BigEndian.Uint64(b[offFirst:]),
		RecordedAt: time.UnixMicro(int64(binary.BigEndian.Uint64(b[offRecorded:]))).UTC(), //nolint:gosec // two's complement on purpose
		Writer:     uuid.UUID(b[offWriter:offPartition]),
		Partition:  int(binary.BigEndian.Uint16(b[offPartition:])),
		Count:      int(binary.BigEndian.Uint32(b[offCount:])),
		raw:        b,
	}
	r := reader{b: b, at: headerSize}
	c.Log = r.name()
	for n := r.count(maxTypes); n > 0 && r.err == nil; n-- {
		c.types = append(c.types, r.name())
	}
	if r.err != nil {
		return Commit{}, r.err
	}
	if c.First == 0 || c.Count == 0 || c.Count > MaxCommitEvents {
		return Commit{}, fmt.Errorf("%w: first sequence %d with %d events", ErrCorrupt, c.First, c.Count)
	}
	c.old = slices.ContainsFunc(c.types, IsSuperseded)
	c.body = b[r.at:]
	for i := range c.Count {
		if _, err := c.next(&r, i); err != nil {
			return Commit{}, err
		}
	}
	if r.at != len(b) {
		return Commit{}, fmt.Errorf("%w: %d bytes after the last event", ErrCorrupt, len(b)-r.at)
	}
	return c, nil
}

// CountOf reads the number of events from an encoded commit's header; 0 if it has
// none. It checks nothing else.
func CountOf(b []byte) int {
	if len(b) < headerSize {
		return 0
	}
	return int(binary.BigEndian.Uint32(b[offCount:]))
}

// AppendIDs appends the IDs of the commit's events in order, 16 bytes each.
func (c Commit) AppendIDs(b []byte) []byte {
	r := reader{b: c.body}
	for range c.Count {
		n := int(r.uvarint()) //nolint:gosec // Decode has checked every event
		b = append(b, r.b[r.at:r.at+len(uuid.UUID{})]...)
		r.at += n
	}
	return b
}

// Events yields the commit's events in order, each in the current version of its
// type (see Upcast). Their Data (and nothing else) shares the commit's memory and
// must not be changed.
func (c Commit) Events() iter.Seq[Recorded] { return c.EventsAfter(0) }

// EventsAfter yields the commit's events with a sequence above after, in order.
func (c Commit) EventsAfter(after uint64) iter.Seq[Recorded] {
	return func(yield func(Recorded) bool) {
		r := reader{b: c.body}
		for i := range c.Count {
			if c.First+uint64(i) <= after {
				r.skip()
				continue
			}
			e, err := c.next(&r, i)
			if err != nil { // Decode has checked every event
				return
			}
			if c.old {
				e, _ = Upcast(e) // what cannot be read stays as it is
			}
			if !yield(e) {
				return
			}
		}
	}
}

func (c *Commit) next(r *reader, i int) (Recorded, error) {
	r.event = i + 1
	n := r.uvarint()
	if r.err == nil && n > uint64(len(r.b)-r.at) { //nolint:gosec // both are lengths
		r.fail("it ends beyond the commit")
	}
	if r.err != nil {
		return Recorded{}, r.err
	}
	in := reader{b: r.b[r.at : r.at+int(n)], event: r.event} //nolint:gosec // checked above
	r.at += int(n)                                           //nolint:gosec // checked above
	var e Recorded
	copy(e.ID[:], in.bytes(16))
	copy(e.Stream[:], in.bytes(16))
	typ := in.uvarint()
	e.Version = in.uvarint()
	occurred := in.varint()
	if claims := in.count(MaxClaims); claims > 0 {
		e.Claims = make([]string, claims)
		for j := range e.Claims {
			e.Claims[j] = in.name()
		}
	}
	if in.err == nil && typ >= uint64(len(c.types)) {
		in.fail("its type is not in the table")
	}
	if in.err != nil {
		return Recorded{}, in.err
	}
	e.Type = c.types[typ]
	e.Data = in.b[in.at:len(in.b):len(in.b)]
	e.OccurredAt = time.UnixMicro(c.RecordedAt.UnixMicro() + occurred).UTC()
	e.RecordedAt = c.RecordedAt
	e.Position = Position{Partition: c.Partition, Sequence: c.First + uint64(i)} //nolint:gosec // an index
	return e, nil
}

// reader walks over bytes and remembers the first fault.
type reader struct {
	b     []byte
	at    int
	event int
	err   error
}

func (r *reader) fail(what string) {
	if r.err == nil {
		where := "in the header"
		if r.event > 0 {
			where = fmt.Sprintf("in event %d", r.event)
		}
		r.err = fmt.Errorf("%w: %s at byte %d: %s", ErrCorrupt, where, r.at, what)
	}
	r.at = len(r.b)
}

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b[r.at:])
	if n <= 0 {
		r.fail("a number is cut off or too long")
		return 0
	}
	r.at += n
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b[r.at:])
	if n <= 0 {
		r.fail("a number is cut off or too long")
		return 0
	}
	r.at += n
	return v
}

func (r *reader) count(most int) int {
	v := r.uvarint()
	if v > uint64(most) { //nolint:gosec // a small constant
		r.fail(fmt.Sprintf("a count of %d, at most %d is allowed", v, most))
		return 0
	}
	return int(v) //nolint:gosec // bounded above
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b)-r.at {
		r.fail("it is cut off")
		return nil
	}
	r.at += n
	return r.b[r.at-n : r.at]
}

func (r *reader) name() string { return string(r.bytes(r.count(1024))) }

func (r *reader) skip() {
	n := int(r.uvarint()) //nolint:gosec // Decode has checked it
	r.at = min(r.at+n, len(r.b))
}

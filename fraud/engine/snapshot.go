package engine

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"

	"github.com/google/uuid"
)

// A snapshot is, in this order and with numbers in base 128 (unsigned varints) but where
// a width is given:
//
//	magic, of 8 bytes, with the number of the format
//	number of rules, and of each the length of its ID, the ID, and the version, 16 bytes
//	last, at (signed), the counts of Stats
//	number of users in entries and of lockstep, and of each the ID, 16 bytes
//	number of keys, and of each: the actor, 16 bytes; last; latest, first and joined
//	  (signed); 1 if there are words; then the rules' words, and of each journal the
//	  number of entries and those, 16 bytes each, little-endian
//	if there are rules of the aggregate lockstep: the number of users with a clock, and of
//	  each the user and the clock (signed); and of each rule the number of users of whom it
//	  has something, and of each the user, until (signed), the number of accounts and of
//	  targets, and those, as above
//	CRC-32 (Castagnoli) of all before, of 4 bytes, little-endian
//
// A user, and the one in an entry, is the number in the list, from 1 on.
//
// Who changes what an engine keeps, or what it finds, counts the format on: else it would
// go on from what an older build has made of the events.
const snapshotMagic = "m5fraud2"

// ErrSnapshot says that a snapshot cannot be used: it is damaged, of another build or of
// other rules. Without it, the engine can be brought to the same state from the log.
var ErrSnapshot = errors.New("no usable snapshot")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Snapshot writes the engine's state, as of Last. It must not be processing meanwhile.
func (g *Engine) Snapshot(to io.Writer) error {
	sum := crc32.New(castagnoli)
	w := &snapshotWriter{out: bufio.NewWriterSize(io.MultiWriter(to, sum), snapshotBuffer)}
	w.bytes([]byte(snapshotMagic))
	w.uint(uint64(len(g.rules)))
	for _, r := range g.rules {
		w.uint(uint64(len(r.ID)))
		w.bytes([]byte(r.ID))
		w.bytes([]byte(r.Version))
	}
	w.uint(g.last)
	w.int(g.at)
	for _, n := range g.stats.counts() {
		w.uint(*n)
	}
	g.snapshotKeys(w)
	err := w.out.Flush()
	if err == nil {
		_, err = to.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32()))
	}
	if err != nil {
		return fmt.Errorf("write a snapshot: %w", err)
	}
	return nil
}

// counts are those that are kept, in the order of the format.
func (s *Stats) counts() []*uint64 {
	return []*uint64{&s.Events, &s.Activities, &s.Unreadable, &s.Backwards, &s.Forgotten, &s.Unnumbered}
}

func (g *Engine) snapshotKeys(w *snapshotWriter) {
	local, users := g.localNumbers()
	w.uint(uint64(len(users)))
	for _, n := range users {
		id := g.users.id(n)
		w.bytes(id[:])
	}
	w.uint(uint64(len(g.keys)))
	actors := make([]uuid.UUID, len(g.keys))
	for actor, i := range g.index {
		actors[i] = actor
	}
	for i := range g.keys {
		k := &g.keys[i]
		w.bytes(actors[i][:])
		w.uint(k.last)
		w.int(k.latest)
		w.int(k.first)
		w.int(k.joined)
		if k.words == 0 {
			w.uint(0)
			continue
		}
		w.uint(1)
		words := g.words.block(k.words - 1)
		for _, r := range g.rules {
			for _, at := range r.words {
				w.uint(uint64(words[at]))
			}
		}
		for _, j := range g.layout.journals {
			entries := j.entries(g, words)
			w.uint(uint64(len(entries)))
			w.entries(entries, local)
		}
	}
	if len(g.locksteps) > 0 {
		g.snapshotLocksteps(w, local)
	}
}

// localNumbers numbers the users of entries and of lockstep, from 1 on.
func (g *Engine) localNumbers() (local, users []uint32) {
	local = make([]uint32, g.users.count()+1)
	add := func(n uint32) {
		if n != 0 && local[n] == 0 {
			users = append(users, n)
			local[n] = uint32(len(users)) //nolint:gosec // at most maxUser
		}
	}
	for _, k := range g.keys {
		if k.words == 0 {
			continue
		}
		words := g.words.block(k.words - 1)
		for _, j := range g.layout.journals {
			for _, e := range j.entries(g, words) {
				add(e.other())
			}
		}
	}
	g.locked(add)
	return local, users
}

const snapshotBuffer = 1 << 16

// snapshotWriter leaves errors to Flush.
type snapshotWriter struct {
	out *bufio.Writer
	buf [entryBytes]byte
}

const entryBytes = 16

func (w *snapshotWriter) bytes(b []byte) { w.out.Write(b) } //nolint:errcheck // see above

func (w *snapshotWriter) uint(n uint64) { w.bytes(binary.AppendUvarint(w.buf[:0], n)) }
func (w *snapshotWriter) int(n int64)   { w.bytes(binary.AppendVarint(w.buf[:0], n)) }

func (w *snapshotWriter) entries(list []entry, local []uint32) {
	for _, e := range list {
		e.setOther(local[e.other()])
		w.entry(e)
	}
}

func (w *snapshotWriter) entry(e entry) {
	binary.LittleEndian.PutUint64(w.buf[:], e.high)
	binary.LittleEndian.PutUint64(w.buf[8:], e.low)
	w.bytes(w.buf[:])
}

// Restore reads what Snapshot wrote into an engine that has processed nothing, with the
// same rules in the same order. After an error (ErrSnapshot, if it is not the reader's)
// the engine must not be used.
func (g *Engine) Restore(from io.Reader) error {
	r := &snapshotReader{in: from, sum: crc32.New(castagnoli), buf: make([]byte, snapshotBuffer)}
	if string(r.bytes(len(snapshotMagic))) != snapshotMagic {
		return r.fail("it is of another build")
	}
	if r.uint(uint64(len(g.rules))) != uint64(len(g.rules)) {
		return r.fail("it is of other rules")
	}
	for _, rule := range g.rules {
		id := string(r.bytes(int(r.uint(maxID)))) //nolint:gosec // small
		if version := string(r.bytes(len(rule.Version))); id != rule.ID || version != rule.Version {
			return r.fail("it is of other rules")
		}
	}
	g.last = r.uint(maxPlace)
	g.at = r.int()
	for _, n := range g.stats.counts() {
		*n = r.uint(1 << 62)
	}
	if err := g.restoreKeys(r); err != nil {
		return err
	}
	want := r.sumSoFar()
	if sum := r.bytes(crc32.Size); r.err != nil || binary.LittleEndian.Uint32(sum) != want {
		return r.fail("it is damaged")
	}
	return nil
}

// maxID bounds what is read for a rule's ID.
const maxID = 1 << 10

func (g *Engine) restoreKeys(r *snapshotReader) error {
	numbers := []uint32{0}
	for range r.uint(maxUser) {
		id := uuid.UUID(r.bytes(len(uuid.UUID{})))
		if r.err != nil {
			return r.fail("it is cut off")
		}
		numbers = append(numbers, g.users.number(id))
	}
	for range r.uint(1 << 32) {
		actor := uuid.UUID(r.bytes(len(uuid.UUID{})))
		k := key{last: r.uint(maxPlace), latest: r.int(), first: r.int(), joined: r.int()}
		if r.uint(1) == 1 {
			k.words = g.words.alloc() + 1
			if err := g.restoreWords(r, g.words.block(k.words-1), numbers); err != nil {
				return err
			}
		}
		if r.err != nil {
			return r.fail("it is cut off")
		}
		g.index[actor] = uint32(len(g.keys)) //nolint:gosec // bounded above
		g.keys = append(g.keys, k)
	}
	if len(g.locksteps) > 0 {
		return g.restoreLocksteps(r, numbers)
	}
	return nil
}

func (g *Engine) restoreWords(r *snapshotReader, words []uint32, numbers []uint32) error {
	for _, rule := range g.rules {
		for _, at := range rule.words {
			words[at] = uint32(r.uint(1<<32 - 1)) //nolint:gosec // bounded
		}
	}
	for _, j := range g.layout.journals {
		n := int(r.uint(maxBlock)) //nolint:gosec // bounded
		if r.err != nil {
			return r.fail("it is cut off")
		}
		if n == 0 {
			continue
		}
		if err := r.entries(j.restore(g, words, n), numbers); err != nil {
			return err
		}
		j.index(g, words[j.header:j.header+journalWords])
		for _, c := range j.cursors {
			if place, count := words[c.at+cursorPlace], words[c.at+cursorCount]; count > 0 && uint64(place)+uint64(count) > uint64(n) { //nolint:gosec // positive
				return r.fail("a rule counts more than there is")
			}
		}
	}
	return nil
}

// snapshotReader is a buffered reader that knows the sum of what has been taken from it.
type snapshotReader struct {
	in        io.Reader
	buf       []byte
	from, end int // what is to be taken
	summed    int // what has been taken is in the sum up to here
	sum       hash.Hash32
	err       error
}

func (r *snapshotReader) fail(why string) error {
	if r.err != nil && !errors.Is(r.err, io.EOF) && !errors.Is(r.err, io.ErrUnexpectedEOF) && !errors.Is(r.err, errRange) {
		return fmt.Errorf("read a snapshot: %w", r.err)
	}
	return fmt.Errorf("%w: %s", ErrSnapshot, why)
}

func (r *snapshotReader) sumSoFar() uint32 {
	r.sum.Write(r.buf[r.summed:r.from])
	r.summed = r.from
	return r.sum.Sum32()
}

// fill reads on until there are n bytes to be taken, if there are.
func (r *snapshotReader) fill(n int) (err error) {
	r.sumSoFar()
	r.end = copy(r.buf, r.buf[r.from:r.end])
	r.from, r.summed = 0, 0
	n, err = io.ReadAtLeast(r.in, r.buf[r.end:], n-r.end)
	r.end += n
	return err
}

// bytes are good until the next are taken; zeros after an error.
func (r *snapshotReader) bytes(n int) []byte {
	if r.err == nil && r.end-r.from < n {
		r.err = r.fill(n)
	}
	if r.err != nil {
		return make([]byte, n)
	}
	r.from += n
	return r.buf[r.from-n : r.from]
}

var errRange = errors.New("a number is out of its range")

func (r *snapshotReader) uint(most uint64) uint64 {
	r.number()
	v, n := binary.Uvarint(r.buf[r.from:r.end])
	return r.took(n, v <= most) * v
}

func (r *snapshotReader) int() int64 {
	r.number()
	v, n := binary.Varint(r.buf[r.from:r.end])
	return int64(r.took(n, true)) * v //nolint:gosec // 0 or 1
}

// number sees to it that the whole of a number is there, if it ever will be.
func (r *snapshotReader) number() {
	if r.err == nil && r.end-r.from < binary.MaxVarintLen64 {
		if err := r.fill(binary.MaxVarintLen64); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			r.err = err
		}
	}
}

// took is told how long a number was, and returns 1 if it is good, else 0.
func (r *snapshotReader) took(n int, inRange bool) uint64 {
	if r.err == nil && (n <= 0 || !inRange) {
		r.err = errRange
	}
	if r.err != nil {
		return 0
	}
	r.from += n
	return 1
}

func (r *snapshotReader) entries(into []entry, numbers []uint32) error {
	for i := range into {
		e := r.entry()
		if int(e.other()) >= len(numbers) {
			return r.fail("it names a user that it does not list")
		}
		e.setOther(numbers[e.other()])
		into[i] = e
	}
	return nil
}

func (r *snapshotReader) entry() entry {
	b := r.bytes(entryBytes)
	return entry{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])}
}

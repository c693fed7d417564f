package fraud

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"testing"
	"time"

	"github.com/google/uuid"
)

// FuzzSnapshotHeader: whatever stands in the file is not used, with the reason, or is a
// header that is written as it was read.
func FuzzSnapshotHeader(f *testing.F) {
	s := snapshot{header: snapshotHeader{
		Log: "activity", Partitions: 16, Partition: 3, Sequence: 7, Event: uuid.UUID{1}, TakenAt: time.Unix(1, 0).UTC(),
		Rules: []ruleShare{{ID: "a", Version: "b", Hits: 1, Latest: []savedHit{{User: uuid.UUID{2}, Sequence: 7, Evidence: []uint64{6, 7}}}}},
	}}
	var b bytes.Buffer
	if _, err := s.write(&b); err != nil {
		f.Fatal(err)
	}
	whole := b.Bytes()
	header := whole[len(snapshotMagic)+4 : len(whole)-crc32.Size]
	for _, sound := range []bool{true, false} {
		f.Add(header, sound)
		f.Add([]byte(`{"rules":[{"latest":[{"evidence":null}]}],"sequence":-1}`), sound)
	}
	f.Add(whole, false)
	f.Add(whole[:20], false)
	f.Fuzz(func(t *testing.T, text []byte, sound bool) {
		if sound { // with a length and a sum that are right
			text = append(binary.LittleEndian.AppendUint32([]byte(snapshotMagic), uint32(len(text))), text...)
			text = binary.LittleEndian.AppendUint32(text, crc32.Checksum(text, castagnoli))
		}
		h, size, err := readSnapshotHeader(bytes.NewReader(text))
		if err != nil {
			if _, ok := errors.AsType[*unusableError](err); !ok {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		if size > len(text) {
			t.Fatalf("%d bytes of %d are read", size, len(text))
		}
		for _, r := range h.Rules {
			if c := r.count(3); len(c.latest) != len(r.Latest) {
				t.Fatalf("%d hits of %d", len(c.latest), len(r.Latest))
			}
		}
		var again bytes.Buffer
		if _, err := (&snapshot{header: h}).write(&again); err != nil {
			return // a time that JSON has not
		}
		if read, _, err := readSnapshotHeader(&again); err != nil || read.Sequence != h.Sequence || read.Event != h.Event || len(read.Rules) != len(h.Rules) {
			t.Fatalf("%+v is read as %+v, %v", h, read, err)
		}
	})
}

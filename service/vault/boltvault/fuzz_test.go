package boltvault

import (
	"bytes"
	"testing"
)

// FuzzDecodeSession: a stored session is refused or read to what writes it again.
func FuzzDecodeSession(f *testing.F) {
	f.Add(make([]byte, 16), make([]byte, sessionSize))
	f.Add([]byte{}, bytes.Repeat([]byte{0xff}, sessionSize))
	f.Add(make([]byte, 16), make([]byte, sessionSize-1))
	f.Add(make([]byte, 16), make([]byte, earlierSize))
	f.Add(make([]byte, 16), append(append(make([]byte, sessionSize-1), 4), "1234agent"...))
	f.Fuzz(func(t *testing.T, id, b []byte) {
		s, err := decodeSession(id, b)
		if err != nil {
			return
		}
		if len(b) == earlierSize { // what earlier builds did not write is made up
			b = append(append(bytes.Clone(b), b[48:56]...), 0)
		}
		if !bytes.Equal(s.ID[:], id) || !bytes.Equal(encodeSession(s), b) {
			t.Fatalf("%x %x is read as %+v", id, b, s)
		}
	})
}

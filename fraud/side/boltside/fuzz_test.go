package boltside

import (
	"bytes"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/fraud/labels"
)

// FuzzDecode: a stored label is refused or read to what writes it again.
func FuzzDecode(f *testing.F) {
	f.Add(encode(labels.Label{User: uuid.UUID{1}, At: time.Unix(1, 0), Source: "import", Label: "1"}))
	f.Add(make([]byte, atSource))
	f.Add(append(bytes.Repeat([]byte{0xff}, atSource), "a\x00b\x00c"...))
	f.Fuzz(func(t *testing.T, k []byte) {
		l, err := decode(k)
		if err == nil && !bytes.Equal(encode(l), k) {
			t.Fatalf("%x is read as %+v", k, l)
		}
	})
}

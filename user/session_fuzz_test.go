package user

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
)

// FuzzParseRefreshToken: nothing but what the deployment has made passes for a
// refresh token.
func FuzzParseRefreshToken(f *testing.F) {
	ring := &keyring{secret: bytes.Repeat([]byte{7}, secretBytes)}
	s := &Service{accounts: accounts{rand: bytes.NewReader(bytes.Repeat([]byte{1}, refreshSize))}}
	good, err := s.newRefreshToken(ring, uuid.UUID{1}, uuid.UUID{2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good.raw)
	f.Add(good.raw[1:])
	f.Add("")
	f.Add(good.raw[:len(good.raw)-1] + "\n")
	f.Fuzz(func(t *testing.T, raw string) {
		got, ok := parseRefreshToken(ring, raw)
		if ok != (raw == good.raw) || ok && got != good {
			t.Fatalf("%q: %v, %+v", raw, ok, got)
		}
	})
}

package user

import (
	"net/http"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/meet5/backend/service/vault"
)

// FuzzAgent: whatever a program calls itself, what is kept of it is short, and does
// nothing to the text around it.
func FuzzAgent(f *testing.F) {
	f.Add("Mozilla/5.0 (X11; Linux x86_64)")
	f.Add("\x00\u202e\u2028\xff")
	f.Fuzz(func(t *testing.T, said string) {
		agent := agentOf(&http.Request{Header: http.Header{"User-Agent": {said}}})
		if len(agent) > vault.MaxAgent || !utf8.ValidString(agent) {
			t.Fatalf("%q becomes %q", said, agent)
		}
		for _, c := range agent {
			if !unicode.IsPrint(c) {
				t.Fatalf("%q becomes %q", said, agent)
			}
		}
	})
}

// FuzzParseKey: what the vault keeps is a whole key or an error, which does not show
// it.
func FuzzParseKey(f *testing.F) {
	f.Add("signing-key-1", make([]byte, 32))
	f.Add("signing-key-2", []byte(`{"seed":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","made_at":"2026-01-01T00:00:00Z","signs_from":"2026-01-01T00:15:00Z"}`))
	f.Add("signing-key-x", []byte(`{}`))
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		k, err := parseKey(name, value)
		if err != nil {
			return
		}
		if k.number < 1 || k.signer == nil || k.signer.KeyID() == "" {
			t.Fatalf("%s is read as %+v", name, k)
		}
	})
}

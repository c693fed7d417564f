package token_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/meet5/backend/service/token"
)

// FuzzParseJWKS: no document makes the parser panic; the keys that it takes are
// whole, stand under their thumbprints, and are the same when they are served on.
func FuzzParseJWKS(f *testing.F) {
	a, b := signer(f, 'a').PublicKey(), signer(f, 'b').PublicKey()
	f.Add(token.JWKS(a))
	f.Add(token.JWKS(a, b))
	f.Add(token.JWKS())
	f.Add([]byte(`{"keys":[{"kty":"RSA","n":"AQ","e":"AQAB"},{"kty":"OKP","crv":"Ed25519","x":"AA","kid":"?"}]}`))
	f.Add([]byte(`{"keys":null}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		set, err := token.ParseJWKS(data)
		if err != nil {
			if set != nil {
				t.Fatalf("an error and %d keys", len(set))
			}
			return
		}
		keys := make([]ed25519.PublicKey, 0, len(set))
		for kid, k := range set {
			if len(k) != ed25519.PublicKeySize || token.Thumbprint(k) != kid {
				t.Fatalf("%q: a key of %d bytes", kid, len(k))
			}
			keys = append(keys, k)
		}
		again, err := token.ParseJWKS(token.JWKS(keys...))
		if err != nil || len(again) != len(set) {
			t.Fatalf("%d keys of %d are read back: %v", len(again), len(set), err)
		}
	})
}

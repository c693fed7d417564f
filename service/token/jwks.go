package token

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
)

// KeySet knows the public keys that tokens are signed with.
type KeySet interface {
	// Key returns the key of that ID. ErrUnknownKey means that there is none;
	// any other error, that this cannot be told right now.
	Key(ctx context.Context, kid string) (ed25519.PublicKey, error)
}

// ErrUnknownKey is a KeySet's answer for an ID that it does not have.
var ErrUnknownKey = errors.New("unknown key")

// Thumbprint is the RFC 7638 thumbprint of a key: SHA-256, base64url.
func Thumbprint(key ed25519.PublicKey) string {
	sum := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

type jwks struct {
	Keys []jwk `json:"keys"`
}

// jwk is an RFC 8037 public key.
type jwk struct {
	KeyType   string `json:"kty"`
	Curve     string `json:"crv,omitempty"`
	Use       string `json:"use,omitempty"`
	Algorithm string `json:"alg,omitempty"`
	ID        string `json:"kid,omitempty"`
	X         string `json:"x,omitempty"`
}

// JWKS is the JSON Web Key Set of the keys, as /.well-known/jwks.json serves it.
func JWKS(keys ...ed25519.PublicKey) []byte {
	set := jwks{Keys: make([]jwk, 0, len(keys))}
	for _, k := range keys {
		set.Keys = append(set.Keys, jwk{
			KeyType: "OKP", Curve: "Ed25519", Use: "sig", Algorithm: "EdDSA",
			ID: Thumbprint(k), X: base64.RawURLEncoding.EncodeToString(k),
		})
	}
	out, err := json.Marshal(set)
	if err != nil {
		panic(err) // unreachable: only strings
	}
	return out
}

// StaticKeySet is a KeySet of keys that are known beforehand.
type StaticKeySet map[string]ed25519.PublicKey

// NewStaticKeySet makes a KeySet of these keys.
func NewStaticKeySet(keys ...ed25519.PublicKey) StaticKeySet {
	s := make(StaticKeySet, len(keys))
	for _, k := range keys {
		s[Thumbprint(k)] = k
	}
	return s
}

// Key implements KeySet.
func (s StaticKeySet) Key(_ context.Context, kid string) (ed25519.PublicKey, error) {
	if k, ok := s[kid]; ok {
		return k, nil
	}
	return nil, ErrUnknownKey
}

// ParseJWKS reads a JSON Web Key Set. Keys for other purposes are skipped, as RFC
// 7517 asks; an Ed25519 key whose kid is not its thumbprint is an error.
func ParseJWKS(data []byte) (StaticKeySet, error) {
	var set jwks
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("parse key set: %w", err)
	}
	keys := make(StaticKeySet, len(set.Keys))
	for i, k := range set.Keys {
		if k.KeyType != "OKP" || k.Curve != "Ed25519" || k.Use != "" && k.Use != "sig" || k.Algorithm != "" && k.Algorithm != "EdDSA" {
			continue
		}
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		if err != nil || len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("parse key set: keys[%d].x is not 32 bytes in base64url", i)
		}
		if kid := Thumbprint(x); kid != k.ID {
			return nil, fmt.Errorf("parse key set: keys[%d].kid is not the key's thumbprint %s", i, kid)
		}
		keys[k.ID] = x
	}
	return keys, nil
}

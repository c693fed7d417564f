package user

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/user/account"
	"github.com/meet5/backend/user/vault"
)

// Names under which the vault keeps what all instances share. They never change.
const (
	secretName  = "deployment-secret"
	signingName = "signing-key-1" // the seed of an Ed25519 key
)

const secretBytes = 32

// keyring is what all instances of a deployment share, as it was read once.
type keyring struct {
	secret []byte
	signer *token.Signer
}

// keyrings reads the keyring when it is first needed, and again if that failed.
type keyrings struct {
	vault vault.Vault
	rand  io.Reader
	turn  chan struct{} // one reads, the others wait for as long as they want
	ring  atomic.Pointer[keyring]
}

func newKeyrings(v vault.Vault, rand io.Reader) *keyrings {
	return &keyrings{vault: v, rand: rand, turn: make(chan struct{}, 1)}
}

func (k *keyrings) get(ctx context.Context) (*keyring, error) {
	if ring := k.ring.Load(); ring != nil {
		return ring, nil
	}
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the keys: %w", ctx.Err())
	}
	if ring := k.ring.Load(); ring != nil {
		return ring, nil
	}
	ring, err := k.read(ctx)
	if err == nil {
		k.ring.Store(ring)
	}
	return ring, err
}

func (k *keyrings) read(ctx context.Context) (*keyring, error) {
	secret, err := k.keep(ctx, secretName, secretBytes)
	if err != nil {
		return nil, err
	}
	seed, err := k.keep(ctx, signingName, ed25519.SeedSize)
	if err != nil {
		return nil, err
	}
	signer, err := token.NewSigner(ed25519.NewKeyFromSeed(seed))
	if err != nil {
		return nil, err
	}
	return &keyring{secret: secret, signer: signer}, nil
}

// keep makes a secret unless another instance was first.
func (k *keyrings) keep(ctx context.Context, name string, size int) ([]byte, error) {
	fresh := make([]byte, size)
	if _, err := io.ReadFull(k.rand, fresh); err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	kept, err := k.vault.Keep(ctx, name, fresh)
	if err != nil {
		return nil, err
	}
	if len(kept) != size {
		return nil, fmt.Errorf("%s in the vault has %d bytes, not %d", name, len(kept), size)
	}
	return kept, nil
}

// Key implements token.KeySet: the service verifies its own tokens, and those
// who run in its process verify by the same keys.
func (k *keyrings) Key(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	ring, err := k.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up key: %w: %w",
			problem.Unavailable("the keys that tokens are signed with cannot be read right now", retryAfter), err)
	}
	if kid != ring.signer.KeyID() {
		return nil, token.ErrUnknownKey
	}
	return ring.signer.PublicKey(), nil
}

// claimOfHandle is what holds a handle in the log: a digest that says nothing
// without the deployment's secret. False if it is no handle.
func (r *keyring) claimOfHandle(handle string) (string, bool) {
	folded, ok := account.FoldHandle(handle)
	return "handle:" + r.digest(folded), ok
}

// claimOfEmail is the same for an e-mail.
func (r *keyring) claimOfEmail(email string) (string, bool) {
	folded, ok := account.FoldEmail(email)
	return "email:" + r.digest(folded), ok
}

func (r *keyring) digest(s string) string {
	return base64.RawURLEncoding.EncodeToString(r.mac(s))
}

func (r *keyring) mac(s string) []byte {
	h := hmac.New(sha256.New, r.secret)
	h.Write([]byte(s)) // a hash never fails
	return h.Sum(nil)
}

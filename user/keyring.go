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
	"time"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
)

// Names under which the vault keeps what all instances share. They never change.
const (
	secretName    = "deployment-secret"
	signingPrefix = "signing-key-" // and its number, from 1 on
)

const secretBytes = 32

const (
	// ringFreshFor is how long an instance goes by the keys as it has read them.
	ringFreshFor = time.Minute
	// ringStaleFor is how long it goes on with them while the vault does not
	// answer. It is less than keyLead, so that no instance signs with a key after
	// the others have passed on to the next.
	ringStaleFor = 10 * time.Minute
	// ringRetry spaces the attempts meanwhile, and ringTimeout bounds one.
	ringRetry   = 5 * time.Second
	ringTimeout = 2 * time.Second
)

// keyring is what all instances of a deployment share, as it was read.
type keyring struct {
	secret []byte
	keys   []signingKey // by number; at least one
	readAt time.Time
}

// keyrings reads the keyring when it is needed and the last one is not fresh.
type keyrings struct {
	vault vault.Vault
	rand  io.Reader
	clock func() time.Time
	turn  chan struct{} // one reads, the others wait for as long as they want
	ring  atomic.Pointer[keyring]
	tried atomic.Int64 // when reading last failed, in nanoseconds since 1970
}

func newKeyrings(v vault.Vault, rand io.Reader, clock func() time.Time) *keyrings {
	return &keyrings{vault: v, rand: rand, clock: clock, turn: make(chan struct{}, 1)}
}

// get returns a keyring that is fresh, or that is all there is while the vault
// does not answer: nobody waits for that who has one to go on with, but one
// caller now and then.
func (k *keyrings) get(ctx context.Context) (*keyring, error) {
	ring, now := k.ring.Load(), k.clock()
	usable := ring != nil && now.Sub(ring.readAt) < ringStaleFor
	if usable && (now.Sub(ring.readAt) < ringFreshFor || now.Sub(time.Unix(0, k.tried.Load())) < ringRetry) {
		return ring, nil
	}
	if usable {
		select {
		case k.turn <- struct{}{}:
		default:
			return ring, nil // another caller reads it
		}
	} else {
		select {
		case k.turn <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the keys: %w", ctx.Err())
		}
	}
	defer func() { <-k.turn }()
	if newer := k.ring.Load(); newer != ring {
		return newer, nil
	}
	reading := ctx
	if usable {
		var cancel context.CancelFunc
		reading, cancel = context.WithTimeout(ctx, ringTimeout)
		defer cancel()
	}
	fresh, err := k.read(reading)
	if err != nil {
		if usable {
			k.tried.Store(now.UnixNano())
			return ring, nil
		}
		return nil, err
	}
	k.ring.Store(fresh)
	return fresh, nil
}

// refresh reads the keyring now.
func (k *keyrings) refresh(ctx context.Context) (*keyring, error) {
	select {
	case k.turn <- struct{}{}:
		defer func() { <-k.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for the keys: %w", ctx.Err())
	}
	ring, err := k.read(ctx)
	if err == nil {
		k.ring.Store(ring)
	}
	return ring, err
}

// read has the turn.
func (k *keyrings) read(ctx context.Context) (*keyring, error) {
	ring := &keyring{readAt: k.clock()}
	if before := k.ring.Load(); before != nil {
		ring.secret = before.secret // which never changes
	} else if err := k.keepSecret(ctx, ring); err != nil {
		return nil, err
	}
	var err error
	ring.keys, err = k.readKeys(ctx)
	return ring, err
}

// keepSecret makes the deployment's secret unless another instance was first.
func (k *keyrings) keepSecret(ctx context.Context, ring *keyring) error {
	fresh := make([]byte, secretBytes)
	if _, err := io.ReadFull(k.rand, fresh); err != nil {
		return fmt.Errorf("make %s: %w", secretName, err)
	}
	kept, err := k.vault.Keep(ctx, secretName, fresh)
	if err != nil {
		return err
	}
	if len(kept) != secretBytes {
		return fmt.Errorf("%s in the vault has %d bytes, not %d", secretName, len(kept), secretBytes)
	}
	ring.secret = kept
	return nil
}

// Key implements token.KeySet: the service verifies its own tokens, and those
// who run in its process verify by the same keys.
func (k *keyrings) Key(ctx context.Context, kid string) (ed25519.PublicKey, error) {
	ring, err := k.get(ctx)
	if err != nil {
		return nil, fmt.Errorf("look up key: %w: %w",
			problem.Unavailable("the keys that tokens are signed with cannot be read right now", retryAfter), err)
	}
	now := k.clock()
	for _, key := range ring.keys {
		if key.signer.KeyID() == kid && !key.ended(now) {
			return key.signer.PublicKey(), nil
		}
	}
	return nil, token.ErrUnknownKey
}

func (r *keyring) digest(s string) string {
	return base64.RawURLEncoding.EncodeToString(r.mac(s))
}

func (r *keyring) mac(s string) []byte {
	h := hmac.New(sha256.New, r.secret)
	h.Write([]byte(s)) // a hash never fails
	return h.Sum(nil)
}

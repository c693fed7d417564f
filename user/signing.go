package user

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/token"
)

const (
	// DefaultKeyLife is how long a key signs if Config says nothing else.
	DefaultKeyLife = 30 * 24 * time.Hour
	// MinKeyLife is the shortest that Config may say.
	MinKeyLife = time.Hour
	// keyLead is how long a new key is published before it signs: all who check
	// tokens have read it by then. They go by what they have read for
	// token.FreshFor, an HTTP cache on their way for jwksMaxAge, and an instance of
	// ours that cannot read the vault for ringStaleFor; together, and with keySlack,
	// that is 21 minutes.
	keyLead = 30 * time.Minute
	// jwksMaxAge is how long the published keys may be kept by a cache.
	jwksMaxAge = 5 * time.Minute
	// keySlack is by how much instances' clocks may differ.
	keySlack = time.Minute
	// keysEvery is how often an instance looks whether the keys' time has come.
	keysEvery = time.Minute
	// keyGrace is how long a key that has ended is still in the vault.
	keyGrace = time.Hour
	// maxKeyTries bounds how often a number is lost to another instance.
	maxKeyTries = 16
)

// signingKey is a key that signs access tokens, or is to, or did. A key signs from
// its time on until that of the next one, and is published until its last token
// has ended. Nothing but when it signs from is kept, so that instances cannot
// disagree about the rest.
type signingKey struct {
	number    int
	signer    *token.Signer
	madeAt    time.Time // zero: by a build that did not say
	signsFrom time.Time
	ends      time.Time // zero: no other key follows it yet
}

func (k signingKey) ended(now time.Time) bool { return !k.ends.IsZero() && !now.Before(k.ends) }

// keptKey is how a key is kept. Earlier builds kept the seed alone.
type keptKey struct {
	Seed      []byte    `json:"seed"`
	MadeAt    time.Time `json:"made_at"`
	SignsFrom time.Time `json:"signs_from"`
}

func signingName(number int) string { return signingPrefix + strconv.Itoa(number) }

// readKeys reads the signing keys, and makes the first if there are none.
func (k *keyrings) readKeys(ctx context.Context) ([]signingKey, error) {
	kept, err := k.vault.Kept(ctx, signingPrefix)
	if err != nil {
		return nil, err
	}
	if len(kept) == 0 {
		now := k.clock()
		fresh, err := k.newKey(now, now)
		if err != nil {
			return nil, err
		}
		first, err := k.vault.Keep(ctx, signingName(1), fresh)
		if err != nil {
			return nil, err
		}
		kept[signingName(1)] = first
	}
	keys := make([]signingKey, 0, len(kept))
	for name, value := range kept {
		key, err := parseKey(name, value)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	slices.SortFunc(keys, func(a, b signingKey) int { return cmp.Compare(a.number, b.number) })
	var next time.Time // when the first of those after a key begins to sign
	for i := len(keys) - 1; i >= 0; i-- {
		if !next.IsZero() {
			keys[i].ends = next.Add(AccessLifetime + keySlack)
		}
		if next.IsZero() || keys[i].signsFrom.Before(next) {
			next = keys[i].signsFrom
		}
	}
	return keys, nil
}

func (k *keyrings) newKey(madeAt, signsFrom time.Time) ([]byte, error) {
	seed := make([]byte, ed25519.SeedSize)
	if _, err := io.ReadFull(k.rand, seed); err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	b, err := json.Marshal(keptKey{Seed: seed, MadeAt: madeAt.UTC(), SignsFrom: signsFrom.UTC()})
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	return b, nil
}

func parseKey(name string, value []byte) (signingKey, error) {
	// No error may show the value.
	number, err := strconv.Atoi(strings.TrimPrefix(name, signingPrefix))
	if err != nil || number < 1 {
		return signingKey{}, fmt.Errorf("the vault keeps %q, which is no signing key's name", name)
	}
	kept := keptKey{Seed: value}
	if len(value) != ed25519.SeedSize {
		kept = keptKey{}
		if json.Unmarshal(value, &kept) != nil || len(kept.Seed) != ed25519.SeedSize {
			return signingKey{}, fmt.Errorf("%s in the vault cannot be read", name)
		}
	}
	signer, err := token.NewSigner(ed25519.NewKeyFromSeed(kept.Seed))
	if err != nil {
		return signingKey{}, err
	}
	return signingKey{number: number, signer: signer, madeAt: kept.MadeAt, signsFrom: kept.SignsFrom}, nil
}

// signing is the key that signs now: the last whose time has come. If none's has,
// by a clock that is behind, it is the first.
func (r *keyring) signing(now time.Time) signingKey {
	for _, k := range slices.Backward(r.keys) {
		if !now.Before(k.signsFrom) {
			return k
		}
	}
	return r.keys[0]
}

// newest is the key that was made last.
func (r *keyring) newest() signingKey { return r.keys[len(r.keys)-1] }

// published are the public keys that tokens may be signed with now or soon.
func (r *keyring) published(now time.Time) (keys []ed25519.PublicKey) {
	for _, k := range r.keys {
		if !k.ended(now) {
			keys = append(keys, k.signer.PublicKey())
		}
	}
	return keys
}

// States of a signing key.
const (
	KeyNext    = "next"    // published, and will sign
	KeySigning = "signing" // signs
	KeyOld     = "old"     // signs no more; its last tokens are still believed
	KeyEnded   = "ended"   // believed no more
)

// SigningKey is what may be known of a key that access tokens are signed with.
type SigningKey struct {
	ID    string // the kid of its tokens
	State string
	// MadeAt is zero for a key of a build that did not note it.
	MadeAt    time.Time
	SignsFrom time.Time
	// EndsAt is when its last token will have ended; zero while no key follows it.
	EndsAt time.Time
}

// Keys are the keys that access tokens are signed with, oldest first.
func (s *Service) Keys(ctx context.Context) ([]SigningKey, error) {
	ring, err := s.keys.refresh(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the signing keys: %w", err)
	}
	return ring.describe(s.clock()), nil
}

func (r *keyring) describe(now time.Time) []SigningKey {
	signing := r.signing(now).number
	keys := make([]SigningKey, len(r.keys))
	for i, k := range r.keys {
		keys[i] = SigningKey{ID: k.signer.KeyID(), MadeAt: k.madeAt, SignsFrom: k.signsFrom, EndsAt: k.ends, State: KeyNext}
		switch {
		case k.number == signing:
			keys[i].State = KeySigning
		case k.ended(now):
			keys[i].State = KeyEnded
		case k.number < signing:
			keys[i].State = KeyOld
		}
	}
	return keys
}

// RotateKeys makes the next signing key, which is published at once and signs in
// half an hour, when everybody who checks tokens knows it. If there is such a
// key already, it makes none.
//
// If the keys are compromised, the new one signs at once and the others are
// destroyed. Whoever checks tokens believes the old keys for eleven minutes at most
// (ringFreshFor, token.FreshFor, and as long as verified tokens are remembered), and
// the new one after a minute and a quarter at most: meanwhile clients may have to
// refresh. No session ends.
func (s *Service) RotateKeys(ctx context.Context, compromised bool) ([]SigningKey, error) {
	if err := s.keys.rotate(ctx, compromised); err != nil {
		return nil, fmt.Errorf("rotate the signing keys: %w", err)
	}
	return s.Keys(ctx)
}

func (k *keyrings) rotate(ctx context.Context, compromised bool) error {
	for range maxKeyTries {
		ring, err := k.refresh(ctx)
		if err != nil {
			return err
		}
		now := k.clock()
		last := ring.newest()
		signsFrom := now
		if !compromised {
			if now.Before(last.signsFrom) {
				return nil
			}
			signsFrom = now.Add(keyLead)
		}
		fresh, err := k.newKey(now, signsFrom)
		if err != nil {
			return err
		}
		kept, err := k.vault.Keep(ctx, signingName(last.number+1), fresh)
		if err != nil {
			return err
		}
		if !bytes.Equal(kept, fresh) {
			continue // another instance was first
		}
		if !compromised {
			return nil
		}
		names := make([]string, len(ring.keys))
		for i, old := range ring.keys {
			names[i] = signingName(old.number)
		}
		return k.vault.Forget(ctx, names...)
	}
	return fmt.Errorf("%w: other instances were first %d times", log.ErrOverloaded, maxKeyTries)
}

// MaintainKeys makes the next signing key if it is time for it, and destroys those
// that ended an hour ago. Run calls it every minute.
func (s *Service) MaintainKeys(ctx context.Context) error {
	ring, err := s.keys.refresh(ctx)
	if err != nil {
		return fmt.Errorf("maintain the signing keys: %w", err)
	}
	now := s.clock()
	var names []string
	for _, k := range ring.keys {
		if k.ended(now.Add(-keyGrace)) {
			names = append(names, signingName(k.number))
		}
	}
	err = s.vault.Forget(ctx, names...)
	if newest := ring.newest(); !now.Before(newest.signsFrom.Add(s.cfg.keyLife() - keyLead)) {
		err = errors.Join(err, s.keys.rotate(ctx, false))
		if err == nil {
			s.logger.InfoContext(ctx, "the next signing key is published", "signs_in", keyLead)
		}
	}
	if err != nil {
		return fmt.Errorf("maintain the signing keys: %w", err)
	}
	return nil
}

// rotateKeys maintains the keys until ctx ends.
func (s *Service) rotateKeys(ctx context.Context) error {
	tick := time.NewTicker(keysEvery)
	defer tick.Stop()
	for {
		attempt, cancel := context.WithTimeout(ctx, requestTimeout)
		err := s.MaintainKeys(attempt)
		cancel()
		if err != nil && ctx.Err() == nil {
			s.logger.WarnContext(ctx, "could not look after the signing keys, will try again", "in", keysEvery, "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

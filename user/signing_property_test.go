package user

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
)

// memory is as much of a vault as keys need: files would make thousands of changes
// take minutes. What vaults promise is vaulttest's to check.
type memory struct {
	vault.Vault
	kept map[string][]byte
}

func (m *memory) Keep(_ context.Context, name string, value []byte) ([]byte, error) {
	if there, ok := m.kept[name]; ok {
		return there, nil
	}
	m.kept[name] = value
	return value, nil
}

func (m *memory) Forget(_ context.Context, names ...string) error {
	for _, name := range names {
		delete(m.kept, name)
	}
	return nil
}

// cutOff is that vault to one instance, which cannot read it at times.
type cutOff struct {
	*memory
	off bool
}

func (v *cutOff) Kept(_ context.Context, prefix string) (map[string][]byte, error) {
	if v.off {
		return nil, vault.ErrUnavailable
	}
	kept := make(map[string][]byte)
	for name, value := range v.kept {
		if strings.HasPrefix(name, prefix) {
			kept[name] = value
		}
	}
	return kept, nil
}

// keyHouse is instances whose clocks differ, and everything that was ever signed or
// read there.
type keyHouse struct {
	now       time.Time
	instances []*Service
	vaults    []*cutOff
	out       []signed
	read      []published
}

type signed struct {
	kid string
	at  time.Time
}

// published is what a cache has read, when.
type published struct {
	kids map[string]bool
	at   time.Time
}

// Whatever instances do and when, with clocks that differ by up to a minute and a
// vault that is out of reach at times: each access token is believed until it ends,
// by every instance that answers, and by everybody who has read the keys as late as
// they may have.
func TestNoTokenIsEverRefusedForARotation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		shared := &memory{kept: make(map[string][]byte)}
		h := &keyHouse{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
		for range 3 {
			skew := time.Duration(rapid.IntRange(-30, 30).Draw(t, "skew")) * time.Second
			v := &cutOff{memory: shared}
			clock := func() time.Time { return h.now.Add(skew) }
			h.vaults = append(h.vaults, v)
			h.instances = append(h.instances, &Service{
				accounts: accounts{vault: v, clock: clock, rand: rand.Reader},
				cfg:      Config{KeyLife: MinKeyLife}, logger: slog.New(slog.DiscardHandler),
				keys: newKeyrings(v, rand.Reader, clock),
			})
		}
		for range rapid.IntRange(1, 80).Draw(t, "steps") {
			h.step(t)
		}
	})
}

func (h *keyHouse) step(t *rapid.T) {
	n := rapid.IntRange(0, len(h.instances)-1).Draw(t, "instance")
	s, ctx := h.instances[n], context.Background()
	switch rapid.SampledFrom([]string{"wait", "wait for a key", "wait for a token", "maintain", "rotate", "sign", "sign", "read", "cut off", "start anew"}).Draw(t, "what") {
	case "wait":
		h.now = h.now.Add(time.Duration(rapid.IntRange(1, 900).Draw(t, "seconds")) * time.Second)
	case "wait for a key":
		if ring := s.keys.ring.Load(); ring != nil {
			h.waitNear(t, ring.newest().signsFrom)
		}
	case "wait for a token":
		if len(h.out) > 0 {
			h.waitNear(t, rapid.SampledFrom(h.out).Draw(t, "token").at.Add(AccessLifetime))
		}
	case "maintain":
		_ = s.MaintainKeys(ctx) // fails while it is cut off
	case "rotate":
		if _, err := s.RotateKeys(ctx, false); err != nil && !errors.Is(err, vault.ErrUnavailable) {
			t.Fatal(err)
		}
	case "sign":
		if ring, err := s.keys.get(ctx); err == nil {
			h.out = append(h.out, signed{ring.signing(s.clock()).signer.KeyID(), h.now})
		}
	case "read":
		if ring, err := s.keys.get(ctx); err == nil {
			kids := make(map[string]bool)
			for _, key := range ring.published(s.clock()) {
				kids[token.Thumbprint(key)] = true
			}
			h.read = append(h.read, published{kids, h.now})
		}
	case "cut off":
		h.vaults[n].off = !h.vaults[n].off
	case "start anew":
		s.keys = newKeyrings(h.vaults[n], rand.Reader, s.clock)
	}
	h.check(t)
}

// waitNear waits until shortly before or after a moment to come.
func (h *keyHouse) waitNear(t *rapid.T, at time.Time) {
	at = at.Add(time.Duration(rapid.IntRange(-31, 31).Draw(t, "seconds from it")) * time.Second)
	if at.After(h.now) {
		h.now = at
	}
}

func (h *keyHouse) check(t *rapid.T) {
	h.out = slices.DeleteFunc(h.out, func(o signed) bool { return h.now.Sub(o.at) >= AccessLifetime })
	h.read = slices.DeleteFunc(h.read, func(r published) bool { return h.now.Sub(r.at) >= token.FreshFor+jwksMaxAge })
	for _, o := range h.out {
		for n, s := range h.instances {
			_, err := s.keys.Key(context.Background(), o.kid)
			if errors.Is(err, token.ErrUnknownKey) {
				t.Fatalf("instance %d refuses a token that was signed %v ago", n, h.now.Sub(o.at))
			}
		}
		for _, r := range h.read {
			if !r.kids[o.kid] {
				t.Fatalf("who read the keys %v ago refuses a token that was signed %v ago", h.now.Sub(r.at), h.now.Sub(o.at))
			}
		}
	}
}

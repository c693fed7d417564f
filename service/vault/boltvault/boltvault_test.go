package boltvault_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events/subscription"
	"github.com/meet5/backend/events/subscription/ledgertest"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/vault/boltvault"
	"github.com/meet5/backend/service/vault/vaulttest"
)

func TestVaultKeepsItsPromises(t *testing.T) {
	vaulttest.Run(t, func(t *testing.T) vault.Vault { return open(t, filepath.Join(t.TempDir(), "user.db")) })
}

func TestItsLedgerKeepsThePromisesOfLedgers(t *testing.T) {
	ledgertest.Run(t, func(t *testing.T) subscription.Ledger {
		return open(t, filepath.Join(t.TempDir(), "user.db")).Ledger()
	})
}

func TestItsLedgerWorksWhileTheFileIsReplaced(t *testing.T) {
	v := open(t, filepath.Join(t.TempDir(), "user.db"))
	at := subscription.Place{Group: "g", Log: "l"}
	const last = 100
	saved := make(chan error, 1)
	go func() {
		for n := range uint64(last) {
			if err := v.Ledger().Save(context.Background(), subscription.Checkpoint{Place: at, Sequence: n + 1}); err != nil {
				saved <- err
				return
			}
		}
		saved <- nil
	}()
	for {
		if err := errors.Join(v.Erase(t.Context(), uuid.New()), v.Tidy(t.Context(), time.Now())); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-saved:
			if c, loadErr := v.Ledger().Load(t.Context(), at); err != nil || loadErr != nil || c.Sequence != last {
				t.Errorf("%d, %v, %v, want %d", c.Sequence, err, loadErr, last)
			}
			return
		default:
		}
	}
}

func open(t *testing.T, path string) *boltvault.Vault {
	t.Helper()
	v, err := boltvault.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.Close(); err != nil {
			t.Error(err)
		}
	})
	return v
}

func TestWhatWasKeptIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "user.db")
	v, err := boltvault.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	user, erased := uuid.New(), uuid.New()
	for _, u := range []uuid.UUID{user, erased} {
		if err := v.Enrol(t.Context(), u, vault.Key{1}, "hash"); err != nil {
			t.Fatal(err)
		}
	}
	if err := v.Erase(t.Context(), erased); err != nil {
		t.Fatal(err)
	}
	if err := v.Tidy(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	v = open(t, path)
	if hash, err := v.PasswordHash(t.Context(), user); err != nil || hash != "hash" {
		t.Errorf("password hash %q, %v", hash, err)
	}
	if err := v.Enrol(t.Context(), erased, vault.Key{1}, "hash"); !errors.Is(err, vault.ErrExists) {
		t.Errorf("enrolment of an erased user: %v, want ErrExists", err)
	}
}

func TestASecondProcessIsToldThatTheFileIsInUse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "user.db")
	v := open(t, path)
	refused := func(when string) {
		t.Helper()
		if second, err := boltvault.Open(path); !errors.Is(err, boltvault.ErrInUse) {
			t.Errorf("%s: opened %v, %v, want ErrInUse", when, second, err)
		}
	}
	refused("at first")
	if err := v.Erase(t.Context(), uuid.New()); err != nil {
		t.Fatal(err)
	}
	if err := v.Tidy(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	refused("after the file was replaced")
}

func TestTidyingLeavesNoByteOfADestroyedKeyInTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "user.db")
	v := open(t, path)
	destroyed, kept := vault.Key([]byte("the key that is to be destroyed!")), vault.Key([]byte("the key that is there for good!!"))
	user, other := uuid.New(), uuid.New()
	if err := v.Enrol(t.Context(), user, destroyed, "$argon2id$of the erased"); err != nil {
		t.Fatal(err)
	}
	if err := v.Enrol(t.Context(), other, kept, "$argon2id$of the other"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(contents(t, path), destroyed[:]) {
		t.Fatal("the key is not in the file to begin with: this test cannot see it go")
	}
	if err := v.Erase(t.Context(), user); err != nil {
		t.Fatal(err)
	}
	if err := v.Tidy(t.Context(), time.Now()); err != nil {
		t.Fatal(err)
	}
	raw := contents(t, path)
	if bytes.Contains(raw, destroyed[:]) || bytes.Contains(raw, []byte("of the erased")) {
		t.Error("the destroyed key or password hash is still in the file")
	}
	if !bytes.Contains(raw, kept[:]) {
		t.Error("the other user's key is not in the file")
	}
	if left, err := filepath.Glob(path + ".*"); err != nil || len(left) > 0 {
		t.Errorf("files left over: %v, %v", left, err)
	}
}

func contents(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

package password

import (
	"context"
	"crypto/rand"
	"errors"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAPasswordMatchesItsHashAndNoOther(t *testing.T) {
	h := NewHasher(rand.Reader)
	phc, err := h.Hash(t.Context(), "pa\u00dfw\u00f6rd")
	if err != nil {
		t.Fatal(err)
	}
	if !regexp.MustCompile(`^\$argon2id\$v=19\$m=19456,t=2,p=1\$[A-Za-z0-9+/]{22}\$[A-Za-z0-9+/]{43}$`).MatchString(phc) {
		t.Errorf("hash %q is not in PHC form at the cost that it should have", phc)
	}
	for given, want := range map[string]bool{
		"pa\u00dfw\u00f6rd": true, "pa\u00dfwo\u0308rd": true, "pa\u00dfword": false, "Pa\u00dfw\u00f6rd": false, "": false,
	} {
		if got, err := h.Matches(t.Context(), given, phc); err != nil || got != want {
			t.Errorf("Matches(%q) = %v, %v, want %v", given, got, err, want)
		}
	}
}

func TestHashesOfOnePasswordDiffer(t *testing.T) {
	h := NewHasher(rand.Reader)
	a, errA := h.Hash(t.Context(), "password")
	b, errB := h.Hash(t.Context(), "password")
	if errA != nil || errB != nil || a == b {
		t.Errorf("%q, %v and %q, %v", a, errA, b, errB)
	}
}

func TestNobodysPasswordNeverMatches(t *testing.T) {
	h := NewHasher(rand.Reader)
	for _, given := range []string{"", "password"} {
		if got, err := h.Matches(t.Context(), given, ""); got || err != nil {
			t.Errorf("Matches(%q) = %v, %v", given, got, err)
		}
	}
}

// The hash was made with the reference implementation's command.
func TestAHashOfAnotherCostAndMakerMatches(t *testing.T) {
	h := NewHasher(rand.Reader)
	const phc = "$argon2id$v=19$m=64,t=2,p=2$c29tZXNhbHQ$NQrDciL0Nsy1wJcvHr079rlYvyBxhBNi"
	for given, want := range map[string]bool{"password": true, "passwort": false} {
		if got, err := h.Matches(t.Context(), given, phc); got != want || err != nil {
			t.Errorf("Matches(%q) = %v, %v, want %v", given, got, err, want)
		}
	}
}

func TestADamagedHashIsAnError(t *testing.T) {
	h := NewHasher(rand.Reader)
	good, err := h.Hash(t.Context(), "password")
	if err != nil {
		t.Fatal(err)
	}
	for _, phc := range []string{
		"x", "$", "$$$$$", good[1:], good + "$", good + "=",
		good[:len(good)-2], // one character fewer may be a shorter hash, another one
		strings.Replace(good, "argon2id", "argon2i", 1),
		strings.Replace(good, "v=19", "v=16", 1),
		strings.Replace(good, "m=19456", "m=99999999", 1),
		strings.Replace(good, "t=2", "t=0", 1),
		strings.Replace(good, "p=1", "p=0", 1),
		strings.Replace(good, "m=19456,", "", 1),
	} {
		if got, err := h.Matches(t.Context(), "password", phc); got || !errors.Is(err, ErrMalformed) {
			t.Errorf("Matches against %q = %v, %v, want ErrMalformed", phc, got, err)
		}
	}
}

func TestWhoCannotWaitIsToldAtOnce(t *testing.T) {
	h := NewHasher(rand.Reader)
	for range cap(h.running) {
		h.running <- struct{}{} // somebody hashes
		h.present <- struct{}{}
	}
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error, maxWaiting)
	for range maxWaiting {
		go func() {
			_, err := h.Hash(ctx, "password")
			errs <- err
		}()
	}
	for len(h.present) < cap(h.present) {
		select {
		case err := <-errs:
			t.Fatalf("one who waits was sent away: %v", err)
		default:
		}
	}
	if _, err := h.Hash(ctx, "password"); !errors.Is(err, ErrBusy) {
		t.Errorf("one too many: %v, want ErrBusy", err)
	}
	cancel()
	for range maxWaiting {
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("one who waits no longer: %v, want context.Canceled", err)
		}
	}
	<-h.running
	<-h.present
	if _, err := h.Hash(t.Context(), "password"); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}

func BenchmarkHash(b *testing.B) {
	h := NewHasher(rand.Reader)
	for b.Loop() {
		if _, err := h.Hash(b.Context(), "password"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestTheMemoryOfABurstIsGivenBack(t *testing.T) {
	kept := func() uint64 { // what the system could have and has not
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapSys - m.HeapReleased
	}
	h := NewHasher(rand.Reader)
	var wg sync.WaitGroup
	for range 32 {
		wg.Go(func() {
			if _, err := h.Matches(t.Context(), "x", ""); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	burst := kept()
	if burst < 19<<20 {
		t.Fatalf("a burst leaves %d MiB: this test cannot see them go", burst>>20)
	}
	deadline := time.Now().Add(30 * time.Second)
	for tick := time.NewTicker(50 * time.Millisecond); kept() > 19<<20; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("%d MiB of %d are kept", kept()>>20, burst>>20)
		}
	}
}

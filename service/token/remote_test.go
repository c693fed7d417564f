package token_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
)

// publisher is a server of keys that a test can break.
type publisher struct {
	*httptest.Server
	fetches atomic.Int32
	answer  atomic.Pointer[func(w http.ResponseWriter)]
}

func publish(t *testing.T, answer func(w http.ResponseWriter)) *publisher {
	t.Helper()
	p := &publisher{}
	p.answer.Store(&answer)
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		p.fetches.Add(1)
		(*p.answer.Load())(w)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *publisher) says(answer func(w http.ResponseWriter)) { p.answer.Store(&answer) }

func keysOf(signers ...*token.Signer) func(w http.ResponseWriter) {
	return func(w http.ResponseWriter) {
		for _, s := range signers {
			_, _ = w.Write(token.JWKS(s.PublicKey()))
		}
	}
}

func broken(w http.ResponseWriter) { w.WriteHeader(http.StatusInternalServerError) }

func TestKeysAreFetchedOnceAndAgainAfterFiveMinutes(t *testing.T) {
	s, at := signer(t, 'a'), &clock{start}
	p := publish(t, keysOf(s))
	keys := token.NewRemoteKeySet([]string{p.URL}, p.Client(), at.now)
	for _, step := range []struct {
		after   time.Duration
		fetches int32
	}{{0, 1}, {time.Minute, 1}, {5*time.Minute - 1, 1}, {5 * time.Minute, 2}, {9 * time.Minute, 2}} {
		at.at = start.Add(step.after)
		k, err := keys.Key(t.Context(), s.KeyID())
		if err != nil || !k.Equal(s.PublicKey()) {
			t.Fatalf("after %v: %v", step.after, err)
		}
		if n := p.fetches.Load(); n != step.fetches {
			t.Errorf("after %v: %d fetches, want %d", step.after, n, step.fetches)
		}
	}
}

func TestAFloodOfUnknownKeysMakesAtMostOneFetchInTenSeconds(t *testing.T) {
	s, at := signer(t, 'a'), &clock{start}
	p := publish(t, keysOf(s))
	v := token.NewVerifier(token.NewRemoteKeySet([]string{p.URL}, p.Client(), at.now), at.now)
	if _, err := v.Verify(t.Context(), sign(t, s, claims())); err != nil {
		t.Fatal(err)
	}
	flood := func() {
		var wait sync.WaitGroup
		for i := range 20 {
			wait.Go(func() {
				for j := range 10 {
					raw := forge(key('b'), map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": fmt.Sprint(i, j)}, nil)
					if _, err := v.Verify(t.Context(), raw); !errors.Is(err, token.ErrInvalid) {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
	}
	for _, step := range []struct {
		after   time.Duration
		fetches int32
	}{{9 * time.Second, 1}, {10 * time.Second, 2}, {19 * time.Second, 2}, {20 * time.Second, 3}} {
		at.at = start.Add(step.after)
		flood()
		if n := p.fetches.Load(); n != step.fetches {
			t.Errorf("after %v: %d fetches, want %d", step.after, n, step.fetches)
		}
	}
}

func TestManyWhoWaitForKeysShareOneFetch(t *testing.T) {
	s, at := signer(t, 'a'), &clock{start}
	release := make(chan struct{})
	p := publish(t, func(w http.ResponseWriter) {
		<-release
		keysOf(s)(w)
	})
	keys := token.NewRemoteKeySet([]string{p.URL}, p.Client(), at.now)
	impatient, leave := context.WithCancel(t.Context())
	leave()
	if _, err := keys.Key(impatient, s.KeyID()); !errors.Is(err, context.Canceled) {
		t.Errorf("one who leaves gets %v", err)
	}
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if _, err := keys.Key(t.Context(), s.KeyID()); err != nil {
				t.Error(err)
			}
		})
	}
	close(release)
	wait.Wait()
	if n := p.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
}

func TestANewKeyIsFoundWhenATokenNamesIt(t *testing.T) {
	old, fresh, at := signer(t, 'a'), signer(t, 'b'), &clock{start}
	p := publish(t, keysOf(old))
	keys := token.NewRemoteKeySet([]string{p.URL}, p.Client(), at.now)
	if _, err := keys.Key(t.Context(), old.KeyID()); err != nil {
		t.Fatal(err)
	}
	p.says(keysOf(fresh))
	at.at = start.Add(10 * time.Second)
	if _, err := keys.Key(t.Context(), fresh.KeyID()); err != nil {
		t.Errorf("the new key: %v", err)
	}
	if _, err := keys.Key(t.Context(), old.KeyID()); !errors.Is(err, token.ErrUnknownKey) {
		t.Errorf("the old key: %v", err)
	}
}

func TestKeysOutliveAnOutageOfTheirServer(t *testing.T) {
	s, at := signer(t, 'a'), &clock{start}
	p := publish(t, keysOf(s))
	keys := token.NewRemoteKeySet([]string{p.URL}, p.Client(), at.now)
	if _, err := keys.Key(t.Context(), s.KeyID()); err != nil {
		t.Fatal(err)
	}
	p.says(broken)
	for _, after := range []time.Duration{6 * time.Minute, 30 * time.Minute, time.Hour - 1} {
		at.at = start.Add(after)
		if _, err := keys.Key(t.Context(), s.KeyID()); err != nil {
			t.Errorf("after %v: %v", after, err)
		}
	}
	at.at = start.Add(time.Hour)
	_, err := keys.Key(t.Context(), s.KeyID())
	if p := problem.Of(err); p == nil || p.Status != 503 {
		t.Errorf("after an hour: %v", err)
	}
	if _, err = keys.Key(t.Context(), "x"); problem.Of(err).Status != 503 {
		t.Errorf("a key that it cannot know: %v", err)
	}
	p.says(keysOf(s))
	at.at = start.Add(time.Hour + time.Second)
	if _, err := keys.Key(t.Context(), s.KeyID()); err != nil {
		t.Errorf("when the server is back: %v", err)
	}
}

func TestAServerThatWasNeverReachedIsAskedOnceASecond(t *testing.T) {
	s, at := signer(t, 'a'), &clock{start}
	p := publish(t, broken)
	keys := token.NewRemoteKeySet([]string{p.URL}, p.Client(), at.now)
	for _, step := range []struct {
		after   time.Duration
		fetches int32
	}{{0, 1}, {999 * time.Millisecond, 1}, {time.Second, 2}} {
		at.at = start.Add(step.after)
		if _, err := keys.Key(t.Context(), s.KeyID()); problem.Of(err).Status != 503 {
			t.Errorf("after %v: %v", step.after, err)
		}
		if n := p.fetches.Load(); n != step.fetches {
			t.Errorf("after %v: %d fetches, want %d", step.after, n, step.fetches)
		}
	}
}

func TestKeySetsThatAreNoneAreNotTaken(t *testing.T) {
	s := signer(t, 'a')
	for name, answer := range map[string]func(w http.ResponseWriter){
		"an error page":   broken,
		"another status":  func(w http.ResponseWriter) { w.WriteHeader(204) },
		"HTML":            func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") },
		"one too large":   func(w http.ResponseWriter) { fmt.Fprint(w, `{"keys":[]}`, strings.Repeat(" ", 64<<10)) },
		"one that breaks": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			p := publish(t, answer)
			keys := token.NewRemoteKeySet([]string{p.URL}, p.Client(), (&clock{start}).now)
			if _, err := keys.Key(t.Context(), s.KeyID()); problem.Of(err).Status != 503 {
				t.Error(err)
			}
		})
	}
}

func TestAnotherServerIsAskedForTheKeysWhenTheFirstIsGone(t *testing.T) {
	public, _, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	there := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(token.JWKS(public))
	}))
	defer there.Close()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	keys := token.NewRemoteKeySet([]string{gone.URL, there.URL}, there.Client(), time.Now)
	if got, err := keys.Key(t.Context(), token.Thumbprint(public)); err != nil || !got.Equal(public) {
		t.Fatalf("got %v (%v)", got, err)
	}
}

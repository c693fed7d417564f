package user_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/user"
)

// published are the IDs of the keys that a service publishes.
func (w *world) published(s *user.Service) token.StaticKeySet {
	w.Helper()
	keys, err := token.ParseJWKS(w.want(http.StatusOK, w.callOn(s, request{method: "GET", path: "/.well-known/jwks.json"})).raw)
	w.must(err)
	return keys
}

func (w *world) states() (states []string) {
	w.Helper()
	keys, err := w.service.Keys(w.Context())
	w.must(err)
	for _, k := range keys {
		states = append(states, k.State)
	}
	return states
}

// kid is the ID of the key that a token names.
func (w *world) kid(access string) string {
	w.Helper()
	part, _, _ := bytes.Cut([]byte(access), []byte("."))
	var header struct {
		Kid string `json:"kid"`
	}
	w.must(json.Unmarshal(w.unbase64(string(part)), &header))
	return header.Kid
}

// lead is how long a new key is published before it signs.
const lead = 30 * time.Minute

func TestANewKeyIsPublishedBeforeItSignsAndTheOldOneUntilItsLastTokenHasEnded(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	begin := w.clock.Now()
	at := func(after time.Duration) { w.clock.advance(begin.Add(after).Sub(w.clock.Now())) }
	old := w.kid(w.signIn("anna", goodPassword).access)
	w.must(w.service.MaintainKeys(t.Context()))
	equal(t, "keys at first", w.states(), []string{user.KeySigning})

	at(user.DefaultKeyLife - lead - time.Second)
	w.must(w.service.MaintainKeys(t.Context()))
	equal(t, "keys before it is time", w.states(), []string{user.KeySigning})
	at(user.DefaultKeyLife - lead)
	w.must(w.service.MaintainKeys(t.Context()))
	w.must(w.service.MaintainKeys(t.Context()))
	equal(t, "keys when it is time", w.states(), []string{user.KeySigning, user.KeyNext})
	equal(t, "how many are published", len(w.published(w.service)), 2)

	// What a cache has read as late as it may verifies everything to come.
	at(user.DefaultKeyLife - token.FreshFor - 6*time.Minute)
	cached := token.NewVerifier(w.published(w.service), w.clock.Now)
	at(user.DefaultKeyLife - time.Second)
	last := w.signIn("anna", goodPassword).access
	equal(t, "the key just before", w.kid(last), old)
	at(user.DefaultKeyLife)
	first := w.signIn("anna", goodPassword).access
	if w.kid(first) == old {
		t.Error("the old key still signs")
	}
	for _, raw := range []string{last, first} {
		if _, err := cached.Verify(t.Context(), raw); err != nil {
			t.Errorf("a cache that is as old as it may be: %v", err)
		}
	}
	equal(t, "keys after the change", w.states(), []string{user.KeyOld, user.KeySigning})

	at(user.DefaultKeyLife - time.Second + user.AccessLifetime - time.Second)
	w.must(w.service.MaintainKeys(t.Context()))
	w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: last}))
	for _, s := range []*user.Service{w.service, w.instance()} {
		if _, ok := w.published(s)[old]; !ok {
			t.Error("the old key is gone while a token of it is good")
		}
	}
	at(user.DefaultKeyLife + user.AccessLifetime + time.Minute)
	if _, ok := w.published(w.service)[old]; ok {
		t.Error("the old key is published after its last token has ended")
	}
	at(user.DefaultKeyLife + user.AccessLifetime + 2*time.Hour)
	w.must(w.service.MaintainKeys(t.Context()))
	equal(t, "keys in the end", w.states(), []string{user.KeySigning})
	w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: w.signIn("anna", goodPassword).access}))
}

func TestOfManyInstancesThatRotateAtOnceOneIsFirst(t *testing.T) {
	w := newWorld(t)
	w.register("anna")
	instances := []*user.Service{w.service, w.instance(), w.instance(), w.instance()}
	for _, s := range instances { // each has read the keys
		w.published(s)
	}
	w.clock.advance(user.DefaultKeyLife)
	var wg sync.WaitGroup
	for range 4 {
		for _, s := range instances {
			wg.Go(func() {
				if err := s.MaintainKeys(context.Background()); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	equal(t, "keys", w.states(), []string{user.KeySigning, user.KeyNext})
	w.clock.advance(lead)
	for _, s := range instances {
		r := w.want(http.StatusCreated, w.callOn(s, request{method: "POST", path: "/v1/sessions", body: `{"login":"anna","password":"` + goodPassword + `"}`}))
		for _, other := range instances {
			w.want(http.StatusOK, w.callOn(other, request{method: "GET", path: "/v1/me", bearer: r.text("access_token")}))
		}
	}
}

func TestAnAdminRotatesTheKeys(t *testing.T) {
	w := newWorld(t, withAdmin)
	admin := w.admin()
	w.register("anna")
	member := w.signIn("anna", goodPassword).access
	for _, r := range []request{{method: "GET", path: "/v1/admin/keys"}, {method: "POST", path: "/v1/admin/keys/rotate", body: `{}`}} {
		r.bearer = member
		w.want(http.StatusForbidden, w.call(r))
	}
	r := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/admin/keys", bearer: admin.access}))
	kid := w.kid(admin.access)
	w.golden("keys", r, map[string]string{kid: "<kid>"})

	for range 2 { // one that is to come is enough
		w.want(http.StatusOK, w.call(request{method: "POST", path: "/v1/admin/keys/rotate", bearer: admin.access, body: `{}`}))
		equal(t, "keys", w.states(), []string{user.KeySigning, user.KeyNext})
	}
	w.want(http.StatusUnprocessableEntity, w.call(request{method: "POST", path: "/v1/admin/keys/rotate", bearer: admin.access, body: `{"force":true}`}))

	before := w.contents(w.vaultPath())
	w.want(http.StatusOK, w.call(request{method: "POST", path: "/v1/admin/keys/rotate", bearer: admin.access, body: `{"compromised":true}`}))
	equal(t, "keys after they were compromised", w.states(), []string{user.KeySigning})
	w.want(http.StatusUnauthorized, w.call(request{method: "GET", path: "/v1/admin/keys", bearer: w.forgeWith(w.seedOf(before))}))
	// Nobody is signed out.
	again := w.mustRefresh(admin)
	w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/admin/keys", bearer: again.access}))
	if w.kid(again.access) == kid {
		t.Error("the compromised key signs")
	}
	w.must(w.vault.Tidy(t.Context(), w.clock.Now()))
	if bytes.Contains(w.contents(w.vaultPath()), w.seedOf(before)) {
		t.Error("the compromised key is still in the vault's file")
	}
}

func TestAKeyOfAnEarlierBuildIsTakenOver(t *testing.T) {
	w := newWorld(t)
	seed := bytes.Repeat([]byte{7}, ed25519.SeedSize)
	_, err := w.vault.Keep(t.Context(), "signing-key-1", seed)
	w.must(err)
	w.register("anna")
	access := w.signIn("anna", goodPassword).access
	equal(t, "kid", w.kid(access), token.Thumbprint(ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)))
	w.must(w.service.MaintainKeys(t.Context())) // nobody knows how old it is
	equal(t, "keys", w.states(), []string{user.KeySigning, user.KeyNext})
}

func TestKeysOutliveAnOutageOfTheVault(t *testing.T) {
	w := newWorld(t)
	gone := &outage{}
	s := w.instance(func(_ *user.Config, d *user.Deps) { d.Vault = flakyVault{d.Vault, gone} })
	w.register("anna")
	access := w.want(http.StatusCreated, w.callOn(s, request{method: "POST", path: "/v1/sessions", body: `{"login":"anna","password":"` + goodPassword + `"}`})).text("access_token")
	gone.on.Store(true)
	w.clock.advance(9 * time.Minute)
	w.want(http.StatusOK, w.callOn(s, request{method: "GET", path: "/.well-known/jwks.json"}))
	if _, err := token.NewVerifier(s.KeySet(), w.clock.Now).Verify(t.Context(), access); err != nil {
		t.Errorf("a token during an outage: %v", err)
	}
	w.clock.advance(time.Minute)
	w.want(http.StatusServiceUnavailable, w.callOn(s, request{method: "GET", path: "/.well-known/jwks.json"}))
	gone.on.Store(false)
	w.want(http.StatusOK, w.callOn(s, request{method: "GET", path: "/.well-known/jwks.json"}))
}

func TestDiscoverySaysWhatIsTrue(t *testing.T) {
	w := newWorld(t)
	w.want(http.StatusNotFound, w.call(request{method: "GET", path: "/.well-known/openid-configuration"}))
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.service.Handler().ServeHTTP(rw, r) }))
	defer server.Close()
	w.issuer = server.URL
	w.service = w.instance(func(c *user.Config, _ *user.Deps) { c.Issuer = server.URL })
	w.register("anna")
	mine := w.signIn("anna", goodPassword)
	w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: mine.access}))

	res, err := server.Client().Get(server.URL + "/.well-known/openid-configuration")
	w.must(err)
	defer res.Body.Close()
	var d struct {
		Issuer  string `json:"issuer"`
		KeysURL string `json:"jwks_uri"`
	}
	w.must(json.NewDecoder(res.Body).Decode(&d))
	equal(t, "issuer", d.Issuer, server.URL)
	keys := token.NewRemoteKeySet([]string{d.KeysURL}, server.Client(), w.clock.Now)
	if _, err := token.NewVerifier(keys, w.clock.Now, d.Issuer).Verify(t.Context(), mine.access); err != nil {
		t.Errorf("by what discovery says: %v", err)
	}
	// And by a program that knows nothing of us.
	outside, err := oidc.NewProvider(oidc.ClientContext(t.Context(), server.Client()), server.URL)
	w.must(err)
	verifier := outside.Verifier(&oidc.Config{ClientID: token.Audience, Now: w.clock.Now})
	if found, err := verifier.Verify(t.Context(), mine.access); err != nil || found.Subject != w.claims(mine.access).Subject.String() {
		t.Errorf("by go-oidc: %v", err)
	}
	if _, err := token.NewVerifier(keys, w.clock.Now).Verify(t.Context(), mine.access); err == nil {
		t.Error("who was not told the issuer believes it")
	}
}

func TestABadIssuerOrKeyLifeIsRefused(t *testing.T) {
	w := newWorld(t)
	for _, c := range []user.Config{
		{Issuer: "meet5"}, {Issuer: "http://api.example.org"}, {Issuer: "https://api.example.org/"},
		{Issuer: "https://api.example.org?x=y"}, {Issuer: "https://me@example.org"}, {KeyLife: time.Minute}, {KeyLife: -time.Hour},
	} {
		if _, err := user.New(c, user.Deps{Log: w.log, Fraud: w.fraud, Activity: w.acts, Vault: w.vault}); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

// seedOf finds the first signing key's seed in the bytes of a vault's file.
func (w *world) seedOf(file []byte) []byte {
	w.Helper()
	_, rest, ok := bytes.Cut(file, []byte(`{"seed":"`))
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 {
		w.Fatal("there is no signing key in the vault's file")
	}
	return rest[:end]
}

// forgeWith makes an admin's token with a stolen key.
func (w *world) forgeWith(seed []byte) string {
	w.Helper()
	signer, err := token.NewSigner(ed25519.NewKeyFromSeed(w.unbase64(string(seed))))
	w.must(err)
	raw, err := signer.Sign(token.Claims{Subject: uuid.New(), Session: uuid.New(), Roles: []string{token.RoleAdmin},
		IssuedAt: w.clock.Now(), ExpiresAt: w.clock.Now().Add(time.Minute)})
	w.must(err)
	return raw
}

// BenchmarkKey is what looking up the key of a token costs in the user service's own
// process, beside keys that are known beforehand.
func BenchmarkKey(b *testing.B) {
	w := newWorld(b)
	known := w.published(w.service)
	for kid := range known {
		for name, keys := range map[string]token.KeySet{"rotated": w.service.KeySet(), "static": known} {
			b.Run(name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := keys.Key(b.Context(), kid); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

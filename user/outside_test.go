package user_test

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/zitadel/oidc/v3/example/server/exampleop"
	"github.com/zitadel/oidc/v3/example/server/storage"
	"github.com/zitadel/oidc/v3/pkg/op"
	"golang.org/x/oauth2"

	"github.com/meet5/backend/user"
)

// app is the client that our deployment is at the outside provider.
const app = "meet5-app"

// openID is a real OpenID provider over HTTP, with two people who can sign in to it.
type openID struct {
	*httptest.Server
	t        *testing.T
	storage  *storage.Storage
	requests atomic.Int32
	down     atomic.Bool
}

// claiming is its storage, whose clients get e-mails in ID tokens.
type claiming struct{ *storage.Storage }

type claimingClient struct{ op.Client }

func (claimingClient) IDTokenUserinfoClaimsAssertion() bool { return true }

func (s claiming) GetClientByClientID(ctx context.Context, id string) (op.Client, error) {
	c, err := s.Storage.GetClientByClientID(ctx, id)
	return claimingClient{c}, err
}

const callback = "custom://auth/callback"

func newOpenID(t *testing.T) *openID {
	t.Helper()
	p := &openID{t: t}
	var handler http.Handler
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		if p.down.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	p.storage = storage.NewStorageWithClients(storage.NewUserStore(p.URL), map[string]*storage.Client{
		app: storage.NativeClient(app, callback), "another-app": storage.NativeClient("another-app", callback),
	})
	handler = exampleop.SetupServer(p.URL, claiming{p.storage}, slog.New(slog.DiscardHandler), false)
	return p
}

// Its people.
func (p *openID) one() string { return "test-user@127.0.0.1" }
func (p *openID) two() string { return "test-user2" }

// signIn goes through the provider's pages and returns an ID token for a client.
func (p *openID) signIn(client, person string) string {
	p.t.Helper()
	must := func(err error) {
		p.t.Helper()
		if err != nil {
			p.t.Fatal(err)
		}
	}
	browser := &http.Client{Transport: p.Client().Transport, CheckRedirect: func(r *http.Request, _ []*http.Request) error {
		if r.URL.Scheme == "custom" {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	cfg := oauth2.Config{ClientID: client, RedirectURL: callback, Scopes: []string{"openid", "email", "profile"},
		Endpoint: oauth2.Endpoint{AuthURL: p.URL + "/auth", TokenURL: p.URL + "/oauth/token", AuthStyle: oauth2.AuthStyleInParams}}
	secret := oauth2.GenerateVerifier()
	page, err := browser.Get(cfg.AuthCodeURL("state", oauth2.S256ChallengeOption(secret)))
	must(err)
	must(page.Body.Close())
	back, err := browser.PostForm(p.URL+"/login/username", url.Values{
		"id": {page.Request.URL.Query().Get("authRequestID")}, "username": {person}, "password": {"verysecure"}})
	must(err)
	must(back.Body.Close())
	to, err := url.Parse(back.Header.Get("Location"))
	must(err)
	t, err := cfg.Exchange(context.WithValue(p.t.Context(), oauth2.HTTPClient, p.Client()), to.Query().Get("code"), oauth2.VerifierOption(secret))
	must(err)
	raw, ok := t.Extra("id_token").(string)
	if !ok {
		p.t.Fatal("there is no ID token")
	}
	return raw
}

// key is what the provider signs with.
func (p *openID) key() (id string, key *rsa.PrivateKey) {
	p.t.Helper()
	k, err := p.storage.SigningKey(p.t.Context())
	if err != nil {
		p.t.Fatal(err)
	}
	return k.ID(), k.Key().(*rsa.PrivateKey)
}

// sign makes any token with a key.
func signRS256(t *testing.T, key *rsa.PrivateKey, header, payload map[string]any) string {
	t.Helper()
	input := jsonPart(t, header) + "." + jsonPart(t, payload)
	digest := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return input + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func jsonPart(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// newOutsideWorld is a deployment that believes a provider's tokens, at the time
// that the provider has.
func newOutsideWorld(t *testing.T, options ...option) (*world, *openID) {
	t.Helper()
	p := newOpenID(t)
	w := newWorld(t, append([]option{func(c *user.Config, d *user.Deps) {
		c.OutsideIssuer, c.OutsideClient = p.URL, app
		d.Outside = p.Client().Transport
	}}, options...)...)
	w.clock.advance(time.Since(w.clock.Now()))
	return w, p
}

// outside exchanges an ID token; profile may be nil.
func (w *world) outside(idToken string, profile map[string]any) response {
	w.Helper()
	body := map[string]any{"id_token": idToken}
	if profile != nil {
		body["profile"] = profile
	}
	b, err := json.Marshal(body)
	w.must(err)
	return w.call(request{method: "POST", path: "/v1/sessions/oidc", body: string(b)})
}

func profileOf(handle string) map[string]any {
	return map[string]any{"handle": handle, "display_name": "The person " + handle, "birth_date": "1990-05-06", "city": "Berlin"}
}

func TestAnIdentityElsewhereLeadsToOneAccountOfItsOwn(t *testing.T) {
	w, p := newOutsideWorld(t)
	r := w.want(http.StatusUnprocessableEntity, w.outside(p.signIn(app, p.one()), nil))
	equal(t, "what is missing", r.fields(), []string{"profile"})
	r = w.want(http.StatusUnprocessableEntity, w.outside(p.signIn(app, p.one()), map[string]any{"handle": "!", "display_name": "", "birth_date": "2020-01-01"}))
	equal(t, "what does not fit", r.fields(), []string{"profile.handle", "profile.display_name", "profile.birth_date"})

	idToken := p.signIn(app, p.one())
	w.want(http.StatusUnprocessableEntity, w.outside(idToken, nil)) // which does not spend it
	r = w.want(http.StatusCreated, w.outside(idToken, profileOf("anna")))
	equal(t, "Cache-Control", r.header.Get("Cache-Control"), "no-store")
	mine := tokens{r.text("access_token"), r.text("refresh_token")}
	me := w.want(http.StatusOK, w.call(request{method: "GET", path: "/v1/me", bearer: mine.access}))
	equal(t, "e-mail", me.text("email"), "test-user@zitadel.ch")
	equal(t, "roles", me.body["roles"], any([]any{}))
	mine = w.mustRefresh(mine)

	// Again, and on another instance, it is the same account, and the profile of the
	// first time stays.
	first := w.service
	w.service = w.instance(func(c *user.Config, _ *user.Deps) { c.OutsideIssuer, c.OutsideClient = p.URL, app })
	r = w.want(http.StatusCreated, w.outside(p.signIn(app, p.one()), profileOf("other")))
	equal(t, "who it is", w.claims(r.text("access_token")).Subject, w.claims(mine.access).Subject)
	// Its token works once, whichever instance.
	w.want(http.StatusUnauthorized, w.outside(idToken, nil))
	w.service = first
	w.want(http.StatusUnauthorized, w.outside(idToken, nil))

	r = w.want(http.StatusCreated, w.outside(p.signIn(app, p.two()), profileOf("bob")))
	if w.claims(r.text("access_token")).Subject == w.claims(mine.access).Subject {
		t.Error("two identities have one account")
	}
	// There is no password to guess or to change.
	w.want(http.StatusUnauthorized, w.call(request{method: "POST", path: "/v1/sessions", body: `{"login":"anna","password":"anything"}`}))
	w.want(http.StatusConflict, w.changePassword(mine.access, "anything", newPassword))

	// Who has erased their account begins anew.
	w.want(http.StatusNoContent, w.call(request{method: "DELETE", path: "/v1/me", bearer: mine.access}))
	w.want(http.StatusUnprocessableEntity, w.outside(p.signIn(app, p.one()), nil))
	r = w.want(http.StatusCreated, w.outside(p.signIn(app, p.one()), profileOf("anna-again")))
	if w.claims(r.text("access_token")).Subject == w.claims(mine.access).Subject {
		t.Error("an erased account is back")
	}
}

func TestAnEmailDoesNotLeadToTheAccountThatHasIt(t *testing.T) {
	w, p := newOutsideWorld(t)
	w.want(http.StatusCreated, w.call(request{method: "POST", path: "/v1/users", body: registration("anna", map[string]any{"email": "test-user@zitadel.ch"})}))
	r := w.want(http.StatusConflict, w.outside(p.signIn(app, p.one()), profileOf("other")))
	equal(t, "fields", r.fields(), []string{"email"})
	r = w.want(http.StatusConflict, w.outside(p.signIn(app, p.two()), profileOf("anna")))
	equal(t, "fields", r.fields(), []string{"handle"})
	r = w.want(http.StatusConflict, w.outside(p.signIn(app, p.two()), profileOf("Admin")))
	equal(t, "fields", r.fields(), []string{"handle"})
}

func TestBadIDTokensAreRefused(t *testing.T) {
	w, p := newOutsideWorld(t)
	stranger := newOpenID(t)
	kid, key := p.key()
	header := map[string]any{"alg": "RS256", "kid": kid}
	now := w.clock.Now()
	payload := map[string]any{"iss": p.URL, "aud": app, "sub": "id1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()}
	with := func(base map[string]any, changes ...any) map[string]any {
		out := make(map[string]any)
		for k, v := range base {
			out[k] = v
		}
		for i := 0; i < len(changes); i += 2 {
			out[changes[i].(string)] = changes[i+1]
		}
		return out
	}
	sign := func(header, payload map[string]any) string { return signRS256(t, key, header, payload) }
	hs256 := func(secret []byte) string {
		input := jsonPart(t, with(header, "alg", "HS256")) + "." + jsonPart(t, payload)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	public, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	w.must(err)
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	good := sign(header, payload)
	parts := strings.Split(good, ".")
	for name, raw := range map[string]string{
		"nothing that is a token":              "x",
		"a very long one":                      strings.Repeat("a", 20_000),
		"another provider's":                   stranger.signIn(app, stranger.one()),
		"another client's":                     p.signIn("another-app", p.one()),
		"an access token of ours":              w.forge(),
		"alg none":                             jsonPart(t, with(header, "alg", "none")) + "." + parts[1] + ".",
		"HS256 with the public key":            hs256(public),
		"HS256 with the client as the secret":  hs256([]byte(app)),
		"a signature of another key":           signRS256(t, foreign, header, payload),
		"a key that is not known":              signRS256(t, foreign, with(header, "kid", "x"), payload),
		"a key ID that is a path":              signRS256(t, foreign, with(header, "kid", "../../etc/passwd"), payload),
		"a key ID that is huge":                signRS256(t, foreign, with(header, "kid", strings.Repeat("k", 10_000)), payload),
		"no key ID, another key":               signRS256(t, foreign, map[string]any{"alg": "RS256"}, payload),
		"a key that it brings along":           signRS256(t, foreign, with(header, "jwk", map[string]any{"kty": "RSA"}, "jku", stranger.URL+"/keys"), payload),
		"another issuer":                       sign(header, with(payload, "iss", stranger.URL)),
		"another audience":                     sign(header, with(payload, "aud", []string{"another-app"})),
		"several audiences and no party":       sign(header, with(payload, "aud", []string{app, "another-app"})),
		"another party":                        sign(header, with(payload, "azp", "another-app")),
		"one that has expired":                 sign(header, with(payload, "exp", now.Add(-time.Second).Unix())),
		"one that was made too long ago":       sign(header, with(payload, "iat", now.Add(-11*time.Minute).Unix())),
		"one that was made in the future":      sign(header, with(payload, "iat", now.Add(time.Minute).Unix())),
		"one that is not good yet":             sign(header, with(payload, "nbf", now.Add(time.Hour).Unix())),
		"no subject":                           sign(header, with(payload, "sub", "")),
		"another payload, the same signature":  parts[0] + "." + jsonPart(t, with(payload, "sub", "id2")) + "." + parts[2],
		"the same payload without a signature": parts[0] + "." + parts[1] + ".",
	} {
		t.Run(name, func(t *testing.T) {
			r := w.outside(raw, profileOf("mallory"))
			equal(t, "status", r.status, http.StatusUnauthorized)
		})
	}
	// What they were made of is good, and nothing that it claims besides counts.
	r := w.want(http.StatusCreated, w.outside(sign(header, with(payload, "roles", []string{"admin"}, "email", "unverified@example.org", "sid", uuid.NewString())), profileOf("anna")))
	c := w.claims(r.text("access_token"))
	equal(t, "roles", len(c.Roles), 0)
	equal(t, "e-mail", w.call(request{method: "GET", path: "/v1/me", bearer: r.text("access_token")}).body["email"], nil)
}

func TestAFloodOfUnknownKeysAsksTheProviderSeldom(t *testing.T) {
	w, p := newOutsideWorld(t)
	w.want(http.StatusCreated, w.outside(p.signIn(app, p.one()), profileOf("anna")))
	foreign, err := rsa.GenerateKey(rand.Reader, 2048)
	w.must(err)
	now := w.clock.Now()
	before := p.requests.Load()
	for range 2 {
		for i := range 50 {
			raw := signRS256(t, foreign, map[string]any{"alg": "RS256", "kid": fmt.Sprint(i)},
				map[string]any{"iss": p.URL, "aud": app, "sub": "id1", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix()})
			w.want(http.StatusUnauthorized, w.outside(raw, nil))
		}
		w.clock.advance(10 * time.Second)
	}
	if asked := p.requests.Load() - before; asked > 2 {
		t.Errorf("the provider was asked %d times", asked)
	}
}

func TestAProviderThatIsDownIsA503(t *testing.T) {
	w, p := newOutsideWorld(t)
	idToken := p.signIn(app, p.one())
	p.down.Store(true)
	r := w.want(http.StatusServiceUnavailable, w.outside(idToken, profileOf("anna")))
	equal(t, "Retry-After", r.header.Get("Retry-After"), "5")
	p.down.Store(false)
	w.clock.advance(time.Second)
	w.want(http.StatusCreated, w.outside(idToken, profileOf("anna")))
	// What is known already is enough.
	more := p.signIn(app, p.one())
	p.down.Store(true)
	w.clock.advance(2 * time.Second)
	w.want(http.StatusCreated, w.outside(more, nil))
}

func TestWhatIsNotedOfIDTokensIsForgotten(t *testing.T) {
	w, p := newOutsideWorld(t)
	w.want(http.StatusCreated, w.outside(p.signIn(app, p.one()), profileOf("anna")))
	noted := func() int {
		kept, err := w.vault.Kept(t.Context(), "id-token-")
		w.must(err)
		return len(kept)
	}
	equal(t, "tokens noted", noted(), 1)
	w.clock.advance(11 * time.Minute)
	w.run(w.service)
	w.eventually("they are forgotten", func() bool { return noted() == 0 })
}

func TestRegistrationCanBeClosed(t *testing.T) {
	w, p := newOutsideWorld(t, func(c *user.Config, _ *user.Deps) { c.NoRegistration = true })
	w.want(http.StatusNotFound, w.call(request{method: "POST", path: "/v1/users", body: registration("anna", nil)}))
	w.want(http.StatusCreated, w.outside(p.signIn(app, p.one()), profileOf("anna")))

	without := newWorld(t)
	without.want(http.StatusNotFound, without.outside("x", nil))
	for _, c := range []user.Config{{OutsideIssuer: p.URL}, {OutsideClient: app}, {OutsideIssuer: "http://login.example.org", OutsideClient: app}} {
		_, err := user.New(c, user.Deps{Log: w.log, Fraud: w.fraud, Activity: w.acts, Vault: w.vault})
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%+v was accepted", c)
		}
	}
}

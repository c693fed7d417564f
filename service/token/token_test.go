package token_test

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/labstack/echo/v4"
	"go.uber.org/goleak"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	subject = uuid.MustParse("0192f0c1-2345-7abc-8def-0123456789ab")
	session = uuid.MustParse("0192f0c1-2345-7abc-8def-0123456789ac")
	start   = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
)

// clock is a time that a test moves.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func key(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed([]byte(strings.Repeat(string(rune(seed)), ed25519.SeedSize)))
}

func signer(t testing.TB, seed byte) *token.Signer {
	t.Helper()
	s, err := token.NewSigner(key(seed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func claims() token.Claims {
	return token.Claims{
		Subject: subject, Session: session, Roles: []string{token.RoleModerator},
		IssuedAt: start, ExpiresAt: start.Add(15 * time.Minute),
	}
}

func sign(t testing.TB, s *token.Signer, c token.Claims) string {
	t.Helper()
	raw, err := s.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestASignedTokenIsVerifiedUntilItExpires(t *testing.T) {
	s, at := signer(t, 'a'), &clock{start}
	v := token.NewVerifier(token.NewStaticKeySet(s.PublicKey()), at.now)
	raw := sign(t, s, claims())
	for _, after := range []time.Duration{0, time.Minute, 15*time.Minute - 1} {
		at.at = start.Add(after)
		for _, how := range []string{"cold", "remembered"} {
			got, err := v.Verify(t.Context(), raw)
			if err != nil {
				t.Fatalf("after %v, %s: %v", after, how, err)
			}
			if diff := cmp.Diff(claims(), got); diff != "" {
				t.Errorf("after %v, %s: %s", after, how, diff)
			}
			got.Roles[0] = token.RoleAdmin // must not reach what is remembered
		}
	}
	at.at = start.Add(15 * time.Minute)
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("a remembered token that has expired: %v", err)
	}
	fresh := token.NewVerifier(token.NewStaticKeySet(s.PublicKey()), at.now)
	if _, err := fresh.Verify(t.Context(), raw); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("a new token that has expired: %v", err)
	}
}

func TestAKeyThatIsWithdrawnIsNotBelievedForLong(t *testing.T) {
	s, at := signer(t, 'a'), &clock{start}
	keys := token.NewStaticKeySet(s.PublicKey())
	v := token.NewVerifier(keys, at.now)
	raw := sign(t, s, claims())
	if _, err := v.Verify(t.Context(), raw); err != nil {
		t.Fatal(err)
	}
	delete(keys, s.KeyID())
	at.at = start.Add(5 * time.Minute)
	if _, err := v.Verify(t.Context(), raw); !errors.Is(err, token.ErrInvalid) {
		t.Errorf("after five minutes: %v", err)
	}
}

// forge signs any header and payload with the key that the verifier trusts.
func forge(k ed25519.PrivateKey, header, payload map[string]any) string {
	input := part(header) + "." + part(payload)
	return input + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k, []byte(input)))
}

func part(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(data)
}

func with(base map[string]any, changes map[string]any) map[string]any {
	out := map[string]any{}
	for k, v := range base {
		out[k] = v
	}
	for k, v := range changes {
		if v == nil {
			delete(out, k)
		} else {
			out[k] = v
		}
	}
	return out
}

func TestAttacks(t *testing.T) {
	k := key('a')
	s := signer(t, 'a')
	public := s.PublicKey()
	header := map[string]any{"alg": "EdDSA", "typ": "at+jwt", "kid": s.KeyID()}
	unix := func(after time.Duration) int64 { return start.Add(after).Unix() }
	payload := map[string]any{
		"iss": "meet5", "aud": []string{"meet5"}, "sub": subject.String(), "sid": session.String(),
		"iat": unix(0), "nbf": unix(0), "exp": unix(15 * time.Minute),
	}
	type change = map[string]any
	hs256 := func(secret []byte) string {
		input := part(with(header, change{"alg": "HS256"})) + "." + part(payload)
		mac := hmac.New(sha256.New, secret)
		mac.Write([]byte(input))
		return input + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	good := forge(k, header, payload)
	parts := strings.Split(good, ".")

	accepted := map[string]string{
		"the token that the others are made of": good,
		"an audience that is no list":           forge(k, header, with(payload, change{"aud": "meet5"})),
		"one audience among several":            forge(k, header, with(payload, change{"aud": []string{"x", "meet5"}})),
		"iat and nbf within the leeway":         forge(k, header, with(payload, change{"iat": unix(30 * time.Second), "nbf": unix(30 * time.Second)})),
		"the longest life":                      forge(k, header, with(payload, change{"exp": unix(24 * time.Hour)})),
	}
	refused := map[string]string{
		"alg none without a signature":             part(with(header, change{"alg": "none"})) + "." + parts[1] + ".",
		"alg None in another case":                 part(with(header, change{"alg": "nOnE"})) + "." + parts[1] + ".",
		"alg none with a signature":                forge(k, with(header, change{"alg": "none"}), payload),
		"HS256 with the public key as the secret":  hs256(public),
		"HS256 with the key's x as the secret":     hs256([]byte(base64.RawURLEncoding.EncodeToString(public))),
		"HS256 with the JWKS as the secret":        hs256(token.JWKS(public)),
		"another name of the algorithm":            forge(k, with(header, change{"alg": "Ed25519"}), payload),
		"no algorithm":                             forge(k, with(header, change{"alg": nil}), payload),
		"a key that the token brings along":        forge(key('b'), with(header, change{"jwk": map[string]string{"kty": "OKP"}}), payload),
		"a signature of another key":               forge(key('b'), header, payload),
		"the ID of a key that is not known":        forge(k, with(header, change{"kid": "x"}), payload),
		"a key ID that is no string":               forge(k, with(header, change{"kid": 1}), payload),
		"a key ID that is a path":                  forge(k, with(header, change{"kid": "../../../dev/null"}), payload),
		"a key ID that is an address":              forge(k, with(header, change{"kid": "https://evil.example/jwks.json"}), payload),
		"a key ID that is huge":                    forge(k, with(header, change{"kid": strings.Repeat("k", token.MaxLength)}), payload),
		"a key ID that is nearly the one":          forge(k, with(header, change{"kid": s.KeyID() + "\x00"}), payload),
		"a key ID that would be an operator":       forge(k, with(header, change{"kid": map[string]any{"$gt": ""}}), payload),
		"addresses of keys that it brings along":   forge(key('b'), with(header, change{"kid": token.Thumbprint(key('b').Public().(ed25519.PublicKey)), "jku": "https://evil.example/jwks.json", "x5u": "https://evil.example/x5u"}), payload),
		"a role and a signature of another key":    forge(key('b'), header, with(payload, change{"roles": []string{"admin"}})),
		"an issuer that only others were told":     forge(k, header, with(payload, change{"iss": "https://api.example.org"})),
		"an issuer that is empty":                  forge(k, header, with(payload, change{"iss": ""})),
		"no key ID":                                forge(k, with(header, change{"kid": nil}), payload),
		"another kind of token":                    forge(k, with(header, change{"typ": "JWT"}), payload),
		"an extension that must be understood":     forge(k, with(header, change{"crit": []string{"x"}, "x": 1}), payload),
		"another issuer":                           forge(k, header, with(payload, change{"iss": "meet6"})),
		"no issuer":                                forge(k, header, with(payload, change{"iss": nil})),
		"another audience":                         forge(k, header, with(payload, change{"aud": []string{"meet6"}})),
		"no audience":                              forge(k, header, with(payload, change{"aud": nil})),
		"one that has expired":                     forge(k, header, with(payload, change{"iat": unix(-time.Hour), "nbf": unix(-time.Hour), "exp": unix(-time.Second)})),
		"one that expires now":                     forge(k, header, with(payload, change{"iat": unix(-time.Hour), "exp": unix(0)})),
		"one without an end":                       forge(k, header, with(payload, change{"exp": nil})),
		"one that ends before it begins":           forge(k, header, with(payload, change{"iat": unix(20 * time.Second), "exp": unix(10 * time.Second)})),
		"one that lives too long":                  forge(k, header, with(payload, change{"exp": unix(24*time.Hour + time.Second)})),
		"one that lives for ever":                  forge(k, header, with(payload, change{"exp": 1e18})),
		"an end that is no number":                 forge(k, header, with(payload, change{"exp": "never"})),
		"nbf in the future":                        forge(k, header, with(payload, change{"nbf": unix(31 * time.Second)})),
		"no nbf":                                   forge(k, header, with(payload, change{"nbf": nil})),
		"iat in the future":                        forge(k, header, with(payload, change{"iat": unix(31 * time.Second)})),
		"no iat":                                   forge(k, header, with(payload, change{"iat": nil})),
		"no subject":                               forge(k, header, with(payload, change{"sub": nil})),
		"a subject that is no user":                forge(k, header, with(payload, change{"sub": "admin"})),
		"the nil user":                             forge(k, header, with(payload, change{"sub": uuid.Nil.String()})),
		"no session":                               forge(k, header, with(payload, change{"sid": nil})),
		"a session that is none":                   forge(k, header, with(payload, change{"sid": "x"})),
		"roles that are no list":                   forge(k, header, with(payload, change{"roles": "admin"})),
		"another payload under the same signature": parts[0] + "." + part(with(payload, change{"roles": []string{"admin"}})) + "." + parts[2],
		"no signature":                             parts[0] + "." + parts[1] + ".",
		"two parts":                                parts[0] + "." + parts[1],
		"four parts":                               good + ".",
		"padding":                                  good + "=",
		"something before it":                      " " + good,
		"nothing":                                  "",
		"a very long one":                          good + strings.Repeat("a", 1<<20),
	}
	v := token.NewVerifier(token.NewStaticKeySet(public), (&clock{start}).now)
	for name, raw := range accepted {
		t.Run(name, func(t *testing.T) {
			if _, err := v.Verify(t.Context(), raw); err != nil {
				t.Error(err)
			}
		})
	}
	for name, raw := range refused {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second time nothing may be remembered
				if c, err := v.Verify(t.Context(), raw); !errors.Is(err, token.ErrInvalid) {
					t.Errorf("got %+v, %v", c, err)
				}
			}
		})
	}
}

func TestAnotherIssuerIsBelievedByThoseWhoWereTold(t *testing.T) {
	const issuer = "https://api.example.org"
	s := signer(t, 'a')
	raw, usual := sign(t, s.As(issuer), claims()), sign(t, s.As(""), claims())
	keys, at := token.NewStaticKeySet(s.PublicKey()), &clock{start}
	for name, c := range map[string]struct {
		verifier *token.Verifier
		believed bool
	}{
		"who was told":                 {token.NewVerifier(keys, at.now, issuer), true},
		"who was not":                  {token.NewVerifier(keys, at.now), false},
		"who was told that it is none": {token.NewVerifier(keys, at.now, ""), false},
		"who was told another one":     {token.NewVerifier(keys, at.now, issuer+"/"), false},
	} {
		if _, err := c.verifier.Verify(t.Context(), raw); (err == nil) != c.believed {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.verifier.Verify(t.Context(), usual); err != nil { // as it was before
			t.Errorf("%s, the usual one: %v", name, err)
		}
	}
}

func TestSignRefusesWhatVerifyWould(t *testing.T) {
	s := signer(t, 'a')
	for name, change := range map[string]func(*token.Claims){
		"no subject":      func(c *token.Claims) { c.Subject = uuid.Nil },
		"no session":      func(c *token.Claims) { c.Session = uuid.Nil },
		"no life":         func(c *token.Claims) { c.ExpiresAt = c.IssuedAt.Add(999 * time.Millisecond) },
		"too long a life": func(c *token.Claims) { c.ExpiresAt = c.IssuedAt.Add(token.MaxLifetime + time.Second) },
		"too many roles":  func(c *token.Claims) { c.Roles = make([]string, token.MaxLength) },
	} {
		c := claims()
		change(&c)
		if _, err := s.Sign(c); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
	if _, err := token.NewSigner(key('a')[:31]); err == nil {
		t.Error("a short key was accepted")
	}
}

func TestTheKeySetIsTheOneOfRFC8037(t *testing.T) {
	// The key and its thumbprint are those of RFC 8037, appendices A.2 and A.3.
	x, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"keys":[{"kty":"OKP","crv":"Ed25519","use":"sig","alg":"EdDSA","kid":"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}`
	got := token.JWKS(x)
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Error(diff)
	}
	keys, err := token.ParseJWKS(got)
	if err != nil {
		t.Fatal(err)
	}
	if k, err := keys.Key(t.Context(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"); err != nil || !k.Equal(ed25519.PublicKey(x)) {
		t.Errorf("got %v, %v", k, err)
	}
	if string(token.JWKS()) != `{"keys":[]}` {
		t.Errorf("no keys are %s", token.JWKS())
	}
}

func TestParseJWKS(t *testing.T) {
	ours := strings.TrimSuffix(strings.TrimPrefix(string(token.JWKS(signer(t, 'a').PublicKey())), `{"keys":[`), `]}`)
	for name, test := range map[string]struct {
		set  string
		keys int
		ok   bool
	}{
		"keys of other kinds are skipped":        {`{"keys":[{"kty":"RSA","n":"x"},` + ours + `,{"kty":"OKP","crv":"X25519"}]}`, 1, true},
		"keys for other uses are skipped":        {`{"keys":[` + strings.Replace(ours, `"sig"`, `"enc"`, 1) + `]}`, 0, true},
		"keys of other algorithms are skipped":   {`{"keys":[` + strings.Replace(ours, `"EdDSA"`, `"ES256"`, 1) + `]}`, 0, true},
		"a kid that is no thumbprint is refused": {`{"keys":[` + strings.Replace(ours, `"kid":"`, `"kid":"x`, 1) + `]}`, 0, false},
		"a short key is refused":                 {`{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}`, 0, false},
		"what is not JSON is refused":            {`<html>`, 0, false},
		"an empty set is one":                    {`{}`, 0, true},
	} {
		t.Run(name, func(t *testing.T) {
			keys, err := token.ParseJWKS([]byte(test.set))
			if (err == nil) != test.ok || len(keys) != test.keys {
				t.Errorf("got %d keys, %v", len(keys), err)
			}
		})
	}
}

func TestRequire(t *testing.T) {
	s := signer(t, 'a')
	v := token.NewVerifier(token.NewStaticKeySet(s.PublicKey()), (&clock{start}).now)
	down := token.NewVerifier(keySetThatIsDown{}, (&clock{start}).now)
	e := web.New(web.Options{})
	who := func(c echo.Context) error {
		claims, ok := token.FromContext(c.Request().Context())
		if !ok {
			t.Error("no claims in the context")
		}
		return c.String(200, claims.Subject.String())
	}
	e.GET("/member", who, token.Require(v))
	e.GET("/moderator", who, token.Require(v, token.RoleModerator))
	e.GET("/staff", who, token.Require(v, token.RoleAdmin, token.RoleModerator))
	e.GET("/admin", who, token.Require(v, token.RoleAdmin))
	e.GET("/down", who, token.Require(down))

	raw := sign(t, s, claims())
	for name, test := range map[string]struct {
		path, authorization string
		status              int
		challenge           string
	}{
		"a good token": {"/member", "Bearer " + raw, 200, ""},
		"a good token, the scheme in another case": {"/member", "bearer  " + raw, 200, ""},
		"the role that is needed":                  {"/moderator", "Bearer " + raw, 200, ""},
		"one of the roles that are needed":         {"/staff", "Bearer " + raw, 200, ""},
		"another role than is needed":              {"/admin", "Bearer " + raw, 403, ""},
		"no token":                                 {"/member", "", 401, "Bearer"},
		"another scheme":                           {"/member", "Basic " + raw, 401, "Bearer"},
		"a scheme without a token":                 {"/member", "Bearer ", 401, "Bearer"},
		"a bad token":                              {"/member", "Bearer " + raw[:len(raw)-4] + "AAAA", 401, `Bearer error="invalid_token"`},
		"a bad token where a role is needed":       {"/admin", "Bearer x", 401, `Bearer error="invalid_token"`},
		"keys that cannot be read":                 {"/down", "Bearer " + raw, 503, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest("GET", test.path, nil)
			r.Header.Set("Authorization", test.authorization)
			w := httptest.NewRecorder()
			e.ServeHTTP(w, r)
			if w.Code != test.status || w.Header().Get("WWW-Authenticate") != test.challenge {
				t.Errorf("got %d, %q, %s", w.Code, w.Header().Get("WWW-Authenticate"), w.Body)
			}
			if test.status == 200 && w.Body.String() != subject.String() {
				t.Errorf("the handler saw %s", w.Body)
			}
		})
	}
}

type keySetThatIsDown struct{}

func (keySetThatIsDown) Key(context.Context, string) (ed25519.PublicKey, error) {
	return nil, fmt.Errorf("look up key: %w", problem.Unavailable("no keys right now", time.Second))
}

func FuzzVerify(f *testing.F) {
	s := signer(f, 'a')
	good := sign(f, s, claims())
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add(part(map[string]string{"alg": "none"}) + "." + part(map[string]string{}) + ".")
	f.Add("..")
	v := token.NewVerifier(token.NewStaticKeySet(s.PublicKey()), (&clock{start}).now)
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := v.Verify(t.Context(), raw)
		if err == nil && raw != good {
			t.Fatalf("believed %q: %+v", raw, c)
		}
		if err != nil && !errors.Is(err, token.ErrInvalid) {
			t.Fatalf("a static key set is always there: %v", err)
		}
	})
}

func BenchmarkVerifyRemembered(b *testing.B) {
	s := signer(b, 'a')
	v := token.NewVerifier(token.NewStaticKeySet(s.PublicKey()), (&clock{start}).now)
	raw := sign(b, s, claims())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Verify(b.Context(), raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyCold(b *testing.B) {
	s := signer(b, 'a')
	keys := token.NewStaticKeySet(s.PublicKey())
	raw := sign(b, s, claims())
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		v := token.NewVerifier(keys, (&clock{start}).now)
		b.StartTimer()
		if _, err := v.Verify(b.Context(), raw); err != nil {
			b.Fatal(err)
		}
	}
}

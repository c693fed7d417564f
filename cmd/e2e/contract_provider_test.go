package e2e_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/google/uuid"
)

// outsideApp is the client that the house is at the outside provider.
const outsideApp = "meet5-app"

// signer is as much of an OpenID provider as the house asks for: its discovery, its
// key, and the ID tokens that it signs. The user service's tests have a whole one.
type signer struct {
	*httptest.Server
	t   *testing.T
	key *rsa.PrivateKey
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &signer{t: t, key: key}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		var answer any = object{"keys": []object{{
			"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k", "n": encoded(key.N.Bytes()), "e": encoded(big.NewInt(int64(key.E)).Bytes()),
		}}}
		if r.URL.Path == "/.well-known/openid-configuration" {
			answer = object{
				"issuer": s.URL, "jwks_uri": s.URL + "/keys", "authorization_endpoint": s.URL + "/authorize", "token_endpoint": s.URL + "/token",
				"id_token_signing_alg_values_supported": []string{"RS256"},
			}
		}
		_ = json.NewEncoder(w).Encode(answer)
	}))
	t.Cleanup(s.Close)
	return s
}

// idToken is of somebody new.
func (s *signer) idToken() string {
	s.t.Helper()
	now := time.Now()
	part := func(v object) string {
		b, err := json.Marshal(v)
		if err != nil {
			s.t.Fatal(err)
		}
		return encoded(b)
	}
	subject := uuid.NewString()
	input := part(object{"alg": "RS256", "kid": "k", "typ": "JWT"}) + "." + part(object{
		"iss": s.URL, "aud": outsideApp, "sub": subject, "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
		"email": subject + "@example.org", "email_verified": true,
	})
	sum := sha256.Sum256([]byte(input))
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.key, crypto.SHA256, sum[:])
	if err != nil {
		s.t.Fatal(err)
	}
	return input + "." + encoded(signature)
}

func encoded(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

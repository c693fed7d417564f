package token

import (
	"cmp"
	"crypto/ed25519"
	"errors"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// tokenType sets access tokens apart from other JWTs (RFC 9068).
const tokenType = "at+jwt"

// wire is a token's payload.
type wire struct {
	Session uuid.UUID `json:"sid"`
	Roles   []string  `json:"roles,omitempty"`
	jwt.RegisteredClaims
}

// Signer makes tokens with one key. It is safe for concurrent use.
type Signer struct {
	key    ed25519.PrivateKey
	public ed25519.PublicKey
	kid    string
	issuer string
}

// NewSigner makes a Signer of tokens of [Issuer]. A service that rotates its keys
// publishes a new one for as long as others go by what they have read
// ([FreshFor]) before it signs with it, and the old one until its last token has
// ended.
func NewSigner(key ed25519.PrivateKey) (*Signer, error) {
	if len(key) != ed25519.PrivateKeySize {
		return nil, fmt.Errorf("an Ed25519 private key has %d bytes, this one %d", ed25519.PrivateKeySize, len(key))
	}
	public := key.Public().(ed25519.PublicKey)
	return &Signer{key: key, public: public, kid: Thumbprint(public), issuer: Issuer}, nil
}

// As is the same Signer for tokens of another issuer; of [Issuer] if that is empty.
func (s *Signer) As(issuer string) *Signer {
	as := *s
	as.issuer = cmp.Or(issuer, Issuer)
	return &as
}

// KeyID is the kid of the tokens that it signs.
func (s *Signer) KeyID() string { return s.kid }

// PublicKey is the key that its tokens are verified with. It must not be changed.
func (s *Signer) PublicKey() ed25519.PublicKey { return s.public }

// Sign makes a token of c. Times are cut to whole seconds. It fails if c has no
// subject or session, or does not live for between one second and [MaxLifetime].
func (s *Signer) Sign(c Claims) (string, error) {
	issued, expires := c.IssuedAt.Truncate(time.Second), c.ExpiresAt.Truncate(time.Second)
	switch life := expires.Sub(issued); {
	case c.Subject == uuid.Nil:
		return "", errors.New("sign access token: no subject")
	case c.Session == uuid.Nil:
		return "", errors.New("sign access token: no session")
	case life <= 0 || life > MaxLifetime:
		return "", fmt.Errorf("sign access token: a life of %v is not between 1s and %v", life, MaxLifetime)
	}
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, &wire{
		Session: c.Session,
		Roles:   c.Roles,
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer:    s.issuer,
			Audience:  jwt.ClaimStrings{Audience},
			Subject:   c.Subject.String(),
			IssuedAt:  jwt.NewNumericDate(issued),
			NotBefore: jwt.NewNumericDate(issued),
			ExpiresAt: jwt.NewNumericDate(expires),
		},
	})
	t.Header["kid"] = s.kid
	t.Header["typ"] = tokenType
	raw, err := t.SignedString(s.key)
	if err != nil {
		return "", fmt.Errorf("sign access token: %w", err)
	}
	if len(raw) > MaxLength {
		return "", fmt.Errorf("sign access token: %d bytes are more than the %d that a token may have", len(raw), MaxLength)
	}
	return raw, nil
}

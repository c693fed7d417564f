// Package token is the access tokens: who signs them, who believes them.
//
// A token is a JWT signed with Ed25519 (alg EdDSA, typ at+jwt), of issuer and
// audience "meet5", or of another issuer that both sides were told; its kid is the RFC 7638 thumbprint of the key. The package's
// promises:
//   - [Verifier.Verify] believes no other algorithm, type, issuer or audience, no
//     token that has expired (to the second, without leeway), and none that lives
//     longer than [MaxLifetime];
//   - what it has verified it remembers, in bounded memory, for at most five
//     minutes and never past the token's end;
//   - a flood of tokens with unknown keys makes a [RemoteKeySet] fetch at most
//     once every ten seconds;
//   - that the keys cannot be read right now is a 503, never a 401: a client must
//     not throw away a good token.
package token

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	// Issuer is the iss of tokens where nothing else is configured.
	Issuer = "meet5"
	// Audience is the aud of every token.
	Audience = "meet5"
	// MaxLifetime is how long a token may live. One that claims more was not made
	// by a [Signer].
	MaxLifetime = 24 * time.Hour
	// Leeway is how far iat and nbf may lie in the future, for clocks that differ.
	Leeway = 30 * time.Second
	// MaxLength is the longest token, in bytes, that is looked at.
	MaxLength = 4 << 10
)

// The roles of the contract. A member needs none of them.
const (
	RoleModerator = "moderator"
	RoleAnalyst   = "analyst"
	RoleAdmin     = "admin"
	RoleService   = "service"
)

// ErrInvalid is in the chain of every error about a token that is not to be
// believed, now or ever.
var ErrInvalid = errors.New("invalid access token")

// Claims is what a token says.
type Claims struct {
	Subject   uuid.UUID // the user
	Session   uuid.UUID // the session that it was made in
	Roles     []string
	IssuedAt  time.Time // whole seconds, UTC
	ExpiresAt time.Time // whole seconds, UTC
}

// HasRole says whether role is among the claims' roles.
func (c Claims) HasRole(role string) bool { return slices.Contains(c.Roles, role) }

// CheckIssuer says what an issuer must be, nil if this one is or is empty: a URL as
// OpenID discovery asks for, https save on this machine.
func CheckIssuer(issuer string) error {
	if issuer == "" {
		return nil
	}
	u, err := url.Parse(issuer)
	fits := err == nil && u.Host != "" && u.User == nil && u.RawQuery == "" && u.Fragment == "" && !strings.HasSuffix(issuer, "/")
	if fits && (u.Scheme == "https" || u.Scheme == "http" && slices.Contains([]string{"localhost", "127.0.0.1", "::1"}, u.Hostname())) {
		return nil
	}
	return errors.New("must be an https URL without a slash at the end, such as https://api.example.org")
}

type contextKey struct{}

// NewContext is ctx with the claims of the caller in it.
func NewContext(ctx context.Context, c Claims) context.Context {
	return context.WithValue(ctx, contextKey{}, c)
}

// FromContext finds the claims that [Require] has put in a request's context.
func FromContext(ctx context.Context) (Claims, bool) {
	c, ok := ctx.Value(contextKey{}).(Claims)
	return c, ok
}

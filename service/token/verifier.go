package token

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// Verifier decides which tokens to believe. It is safe for concurrent use.
type Verifier struct {
	keys    KeySet
	issuers []string
	now     func() time.Time
	parser  *jwt.Parser
	known   *cache
}

// NewVerifier makes a Verifier that trusts keys and reads the time from now. It
// believes tokens of [Issuer], and of the other issuers that are given; an empty
// one is none.
func NewVerifier(keys KeySet, now func() time.Time, others ...string) *Verifier {
	issuers := []string{Issuer}
	for _, o := range others {
		if o != "" {
			issuers = append(issuers, o)
		}
	}
	return &Verifier{
		keys:    keys,
		issuers: issuers,
		now:     now,
		parser: jwt.NewParser(
			jwt.WithValidMethods([]string{jwt.SigningMethodEdDSA.Alg()}),
			jwt.WithStrictDecoding(),
			// Times, issuer and audience are checked here, where each has its own
			// leeway.
			jwt.WithoutClaimsValidation(),
		),
		known: newCache(),
	}
}

// Verify returns what raw says, if it is to be believed. An error with
// [ErrInvalid] in its chain means that it is not; any other, that the keys
// cannot be read right now or that ctx has ended.
func (v *Verifier) Verify(ctx context.Context, raw string) (Claims, error) {
	if len(raw) > MaxLength {
		return Claims{}, invalid("longer than %d bytes", MaxLength)
	}
	now := v.now()
	id := cacheKey(raw)
	if c, ok := v.known.get(id, now); ok {
		c.Roles = slices.Clone(c.Roles) // the cache's own must not change
		return c, nil
	}
	var w wire
	_, err := v.parser.ParseWithClaims(raw, &w, func(t *jwt.Token) (any, error) {
		return v.key(ctx, t)
	})
	if err != nil {
		if unreadable, ok := errors.AsType[*keyError](err); ok {
			return Claims{}, fmt.Errorf("verify access token: %w", unreadable.cause)
		}
		return Claims{}, invalid("%w", err)
	}
	c, err := w.claims(now, v.issuers)
	if err != nil {
		return Claims{}, err
	}
	v.known.put(id, c, now)
	c.Roles = slices.Clone(c.Roles)
	return c, nil
}

// keyError carries a failure to look a key up through the parser, which would
// make it look like a bad token.
type keyError struct{ cause error }

func (e *keyError) Error() string { return e.cause.Error() }

func (v *Verifier) key(ctx context.Context, t *jwt.Token) (any, error) {
	if typ, _ := t.Header["typ"].(string); typ != tokenType {
		return nil, fmt.Errorf("typ is not %s", tokenType)
	}
	// RFC 7515, 4.1.11: who does not understand an extension must refuse it.
	if _, ok := t.Header["crit"]; ok {
		return nil, errors.New("crit names extensions that are not known")
	}
	kid, _ := t.Header["kid"].(string)
	if kid == "" {
		return nil, errors.New("no kid")
	}
	key, err := v.keys.Key(ctx, kid)
	if err != nil {
		if errors.Is(err, ErrUnknownKey) {
			return nil, err
		}
		return nil, &keyError{cause: err}
	}
	return key, nil
}

// claims checks what a token with a good signature says.
func (w *wire) claims(now time.Time, issuers []string) (Claims, error) {
	if !slices.Contains(issuers, w.Issuer) {
		return Claims{}, invalid("iss is none of %q", issuers)
	}
	if !slices.Contains(w.Audience, Audience) {
		return Claims{}, invalid("aud is not %s", Audience)
	}
	if w.IssuedAt == nil || w.NotBefore == nil || w.ExpiresAt == nil {
		return Claims{}, invalid("iat, nbf or exp is missing")
	}
	subject, err := uuid.Parse(w.Subject)
	if err != nil || subject == uuid.Nil {
		return Claims{}, invalid("sub is not a user")
	}
	if w.Session == uuid.Nil {
		return Claims{}, invalid("sid is missing")
	}
	issued, expires := w.IssuedAt.UTC(), w.ExpiresAt.UTC()
	switch {
	case !now.Before(expires):
		return Claims{}, invalid("expired")
	case issued.After(now.Add(Leeway)):
		return Claims{}, invalid("iat is in the future")
	case w.NotBefore.After(now.Add(Leeway)):
		return Claims{}, invalid("nbf is in the future")
	case !issued.Before(expires):
		return Claims{}, invalid("exp is not after iat")
	case expires.Sub(issued) > MaxLifetime:
		return Claims{}, invalid("lives longer than %v", MaxLifetime)
	}
	return Claims{Subject: subject, Session: w.Session, Roles: w.Roles, IssuedAt: issued, ExpiresAt: expires}, nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrInvalid, fmt.Errorf(format, args...))
}

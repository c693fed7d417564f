// Package provider believes the ID tokens of an outside OpenID provider.
//
// It promises that
//   - a token is believed only if its issuer, audience and authorised party are the
//     ones that were given, its signature is by a key that the issuer publishes and
//     of an algorithm that the issuer's discovery names, none of them symmetric, it
//     has not ended, and it was made within MaxAge;
//   - an e-mail that the provider has not verified is none;
//   - tokens with keys that are not known make at most one request in ten seconds,
//     however many they are, and what is read is bounded;
//   - keys that the provider withdraws are believed for an hour at most, while it
//     answers;
//   - that the provider does not answer is a 503, never a 401;
//   - nothing is asked before the first token comes.
package provider

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"

	"github.com/meet5/backend/service/problem"
)

const (
	// MaxLength is the longest token, in bytes, that is looked at.
	MaxLength = 16 << 10
	// MaxAge is how long after it was made a token is believed.
	MaxAge = 10 * time.Minute
	// leeway is by how much a token may be made in the future, for clocks that
	// differ.
	leeway = 30 * time.Second
	// freshFor is how long what discovery said, and keys that were read, are gone by;
	// staleFor is the same while the provider does not answer.
	freshFor = time.Hour
	staleFor = 6 * time.Hour
	// askTimeout bounds one request to the provider.
	askTimeout = 4 * time.Second
	// retryAfter is what a client is told while the provider does not answer.
	retryAfter = 5 * time.Second
)

// ErrInvalid is in the chain of every error about a token that is not to be believed.
var ErrInvalid = errors.New("invalid ID token")

// Identity is whom a token is about.
type Identity struct {
	Subject string
	// Email is empty unless the provider says that it is verified.
	Email string
	// Until is when the token is believed no more.
	Until time.Time
}

// Provider is an outside OpenID provider. It is safe for concurrent use.
type Provider struct {
	issuer, client string
	now            func() time.Time
	http           *http.Client
	sparing        *sparing

	mu    sync.Mutex
	known *oidc.IDTokenVerifier
	since time.Time // when known was made
}

// New makes the provider at an issuer's URL, as the client that its tokens are for.
// A transport of nil is http.DefaultTransport.
func New(issuer, client string, transport http.RoundTripper, now func() time.Time) *Provider {
	s := newSparing(transport, now)
	return &Provider{issuer: issuer, client: client, now: now, sparing: s, http: &http.Client{Transport: s, Timeout: askTimeout}}
}

// Issuer is the URL that it was given.
func (p *Provider) Issuer() string { return p.issuer }

// Verify returns whom a token is about. An error with ErrInvalid in its chain means
// that it is not to be believed; any other, that this cannot be told right now.
func (p *Provider) Verify(ctx context.Context, raw string) (Identity, error) {
	if len(raw) > MaxLength {
		return Identity{}, fmt.Errorf("%w: longer than %d bytes", ErrInvalid, MaxLength)
	}
	verifier, err := p.verifier(ctx)
	if err != nil {
		return Identity{}, unreachable(err)
	}
	failures := p.sparing.failed()
	t, err := verifier.Verify(ctx, raw)
	if err != nil {
		if p.sparing.failed() != failures || ctx.Err() != nil {
			return Identity{}, unreachable(err)
		}
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	var more struct {
		Email    string `json:"email"`
		Verified bool   `json:"email_verified"`
		Party    string `json:"azp"`
	}
	if err := t.Claims(&more); err != nil {
		return Identity{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	now := p.now()
	switch {
	case t.Subject == "":
		return Identity{}, fmt.Errorf("%w: no sub", ErrInvalid)
	// OpenID Connect Core, 3.1.3.7: of several audiences one is the party.
	case more.Party != "" && more.Party != p.client, more.Party == "" && len(t.Audience) > 1:
		return Identity{}, fmt.Errorf("%w: azp is not this client", ErrInvalid)
	case t.IssuedAt.After(now.Add(leeway)):
		return Identity{}, fmt.Errorf("%w: iat is in the future", ErrInvalid)
	case !now.Before(t.IssuedAt.Add(MaxAge)):
		return Identity{}, fmt.Errorf("%w: made more than %v ago", ErrInvalid, MaxAge)
	}
	who := Identity{Subject: t.Subject, Until: t.IssuedAt.Add(MaxAge)}
	if more.Verified {
		who.Email = more.Email
	}
	return who, nil
}

func unreachable(err error) error {
	return fmt.Errorf("%w: %w", problem.Unavailable("the provider of your identity does not answer right now", retryAfter), err)
}

// verifier knows what discovery says. One caller asks, the others wait for it.
func (p *Provider) verifier(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	age := now.Sub(p.since)
	if p.known != nil && age < freshFor {
		return p.known, nil
	}
	// What is found outlives the caller, whose end must not end later requests.
	found, err := oidc.NewProvider(oidc.ClientContext(context.WithoutCancel(ctx), p.http), p.issuer)
	if err != nil {
		if p.known != nil && age < staleFor {
			return p.known, nil
		}
		return nil, fmt.Errorf("ask %s how to check its tokens: %w", p.issuer, err)
	}
	p.known = found.Verifier(&oidc.Config{ClientID: p.client, Now: p.now})
	p.since = now
	return p.known, nil
}

// Package vault is where a service keeps what must never be in a log: the keys that
// what a log says of people is sealed with, so that destroying a key erases it. The
// user service keeps there, too, password hashes, the deployment's secret and signing
// key, and the sessions that refresh tokens belong to. Each service has a vault of its
// own.
//
// A Vault promises, and vaulttest checks on every adapter:
//
//  1. what is kept under a name is kept once, until it is forgotten: of any number
//     of instances that bring a value of their own, all get the same one back;
//  2. so with a user's key: it is never replaced, and once erased it is gone and
//     no key can be kept for that user again;
//     a key that several users share is gone as soon as one of them is erased;
//  3. a session's token is exchanged at most once; who brings one that was
//     exchanged before ends the session;
//  4. what is acknowledged is durable;
//  5. all of it holds for concurrent callers, on MongoDB in any number of
//     processes.
//
// Here is also the ledger of the service's subscriptions. Restoring an old
// copy of the vault so restores the place from which erasures are worked through,
// and the keys that it brought back are destroyed again.
package vault

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events/subscription"
)

// Errors of a Vault, matched with errors.Is. Any other error of an adapter is a
// fault of its own.
var (
	// ErrNotFound: there is no such thing, or not any more.
	ErrNotFound = errors.New("not in the vault")
	// ErrExists: the user is enrolled already, or was and is erased.
	ErrExists = errors.New("in the vault already")
	// ErrErased: one of those who were to share a key is erased.
	ErrErased = errors.New("erased")
	// ErrReused: the session's token was exchanged before. The session has ended.
	ErrReused = errors.New("refresh token used twice")
	// ErrUnavailable: the store did not answer. A change may or may not have
	// been made.
	ErrUnavailable = errors.New("vault unavailable")
)

// Bounds.
const (
	// MaxSessions is how many sessions a user may have. One more ends the oldest.
	MaxSessions = 100
	// MaxAgent and MaxAddress bound, in bytes, what a session says of where it is.
	MaxAgent   = 256
	MaxAddress = 64
	// MaxKeys bounds the users of one call.
	MaxKeys = 4096
)

// Key is what is said of one user, or of several, is sealed with (see Seal).
type Key [32]byte

// Digest is the SHA-256 of a refresh token.
type Digest [32]byte

// Session is one sign-in: a family of refresh tokens, each exchanged for the
// next. Times are kept to the microsecond.
type Session struct {
	ID        uuid.UUID
	User      uuid.UUID
	Token     Digest // of the one token that is good now
	StartedAt time.Time
	ExpiresAt time.Time
	// UsedAt is when its token was last exchanged, or it started. Sessions of
	// earlier builds say when they started until then.
	UsedAt time.Time
	// Agent is the program that it was started with, as that called itself, and
	// Address the network that it was started from; each is empty if not known.
	Agent   string
	Address string
}

// Check says whether the session keeps within the bounds.
func (s Session) Check() error {
	if len(s.Agent) > MaxAgent || len(s.Address) > MaxAddress {
		return fmt.Errorf("vault: the session's agent has %d bytes and its address %d, at most %d and %d are allowed",
			len(s.Agent), len(s.Address), MaxAgent, MaxAddress)
	}
	return nil
}

// Vault keeps secrets. It is safe for concurrent use.
type Vault interface {
	// Keep keeps value under name unless a value is there, and returns the one
	// that is there from now on.
	Keep(ctx context.Context, name string, value []byte) ([]byte, error)

	// Kept returns what is kept under the names that begin with prefix.
	Kept(ctx context.Context, prefix string) (map[string][]byte, error)
	// Forget drops what is kept under the names. It may be repeated.
	Forget(ctx context.Context, names ...string) error

	// Enrol keeps a new user's key and password hash, both or none. It fails
	// with ErrExists if the user is known or erased.
	Enrol(ctx context.Context, user uuid.UUID, key Key, passwordHash string) error
	// KeepKeys keeps keys for those of up to MaxKeys users who have none, without
	// a password, and returns the keys of all of them, save those erased.
	KeepKeys(ctx context.Context, keys map[uuid.UUID]Key) (map[uuid.UUID]Key, error)
	// KeepShared keeps a key about up to MaxKeys users under an ID of its own, by which
	// Keys returns it until one of them is erased. It fails with ErrErased if one is
	// erased already, and with ErrExists if there is or was a key under the ID.
	KeepShared(ctx context.Context, id uuid.UUID, key Key, users []uuid.UUID) error
	// Keys returns the keys of those of up to MaxKeys users who have one.
	Keys(ctx context.Context, users ...uuid.UUID) (map[uuid.UUID]Key, error)
	// Erased says which of up to MaxKeys users are erased.
	Erased(ctx context.Context, users ...uuid.UUID) (map[uuid.UUID]bool, error)
	// PasswordHash returns ErrNotFound for a user without a password.
	PasswordHash(ctx context.Context, user uuid.UUID) (string, error)
	// ChangePassword puts the hash to in the place of from, both not empty. It fails
	// with ErrNotFound unless from is what is there.
	ChangePassword(ctx context.Context, user uuid.UUID, from, to string) error
	// Erase destroys the user's key and password hash and the keys that they share, ends
	// their sessions, and remembers that it did. It may be repeated, and the user need not be known.
	Erase(ctx context.Context, user uuid.UUID) error

	// StartSession adds a session.
	StartSession(ctx context.Context, s Session) error
	// ExchangeToken puts next in the place of the session's token, if that is
	// given and the session has not expired, and moves its end; it was used now.
	// ErrNotFound: it has expired or there is none. ErrReused: given is another token.
	ExchangeToken(ctx context.Context, session uuid.UUID, given, next Digest, now, expiresAt time.Time) error
	// EndSession ends a session. It may be repeated.
	EndSession(ctx context.Context, session uuid.UUID) error
	// EndSessions ends the user's sessions but for one, which need not be there.
	EndSessions(ctx context.Context, user, but uuid.UUID) error
	// Sessions returns the user's sessions that have not expired, without their
	// tokens, the latest started first.
	Sessions(ctx context.Context, user uuid.UUID, now time.Time) ([]Session, error)

	// Tidy drops sessions that have expired, and does what is left to do so that
	// nothing erased can be read from the store's files, as far as an adapter can.
	Tidy(ctx context.Context, now time.Time) error
	// Ledger is that of the service's subscriptions.
	Ledger() subscription.Ledger
}

package user

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/account"
)

// maxTries bounds how often a change is decided again because its account has
// moved meanwhile.
const maxTries = 16

// errKeyMissing says that an account's key is not in the vault although the
// account is not erased: the vault is not the one that the log was written with.
var errKeyMissing = errors.New("its key is not in the vault")

// accounts reads accounts from the log, exact at the moment of the call, and
// changes them there.
type accounts struct {
	log   *log.Log
	vault vault.Vault
	clock func() time.Time
	rand  io.Reader
}

// opened is an account with its personal data.
type opened struct {
	account.Account
	Personal events.Personal
}

// fold reads an account without its personal data. An erased one is an account,
// too; account.ErrUnknown says that there never was one.
func (s *accounts) fold(ctx context.Context, id uuid.UUID) (account.Account, error) {
	stream, err := log.ReadStream(ctx, s.log, id)
	if err != nil {
		return account.Account{}, unreadable(err)
	}
	return account.Fold(stream)
}

// load reads an account with its personal data, which an erased one has none of.
func (s *accounts) load(ctx context.Context, id uuid.UUID) (opened, error) {
	a, err := s.fold(ctx, id)
	if err != nil || a.Erased {
		return opened{Account: a}, err
	}
	p, _, err := s.open(ctx, a)
	if errors.Is(err, errKeyMissing) {
		// It may have been erased since it was folded: the event comes first.
		if a, foldErr := s.fold(ctx, id); foldErr == nil && a.Erased {
			return opened{Account: a}, nil
		}
	}
	return opened{a, p}, err
}

// open opens an account's personal data, and returns the key that it took.
func (s *accounts) open(ctx context.Context, a account.Account) (events.Personal, vault.Key, error) {
	keys, err := s.vault.Keys(ctx, a.ID)
	if err != nil {
		return events.Personal{}, vault.Key{}, err
	}
	key, ok := keys[a.ID]
	if !ok {
		return events.Personal{}, key, fmt.Errorf("open account %s: %w", a.ID, errKeyMissing)
	}
	p, err := unseal(key, a.ID, a.Sealed)
	return p, key, err
}

// step is what a change comes to: an event to append. The zero value leaves the
// account as it is.
type step struct {
	ID      uuid.UUID // a new one if zero
	Type    string
	Payload any
}

// change lets decide look at an account and appends what it decides on, unless
// the account has moved meanwhile: then it decides again. It returns the account
// as it is afterwards.
func (s *accounts) change(ctx context.Context, id uuid.UUID, decide func(account.Account) (step, error)) (account.Account, error) {
	for range maxTries {
		a, err := s.fold(ctx, id)
		if err != nil {
			return a, err
		}
		next, err := decide(a)
		if err != nil || next.Type == "" {
			return a, err
		}
		e, err := s.event(next, id, a.Version+1)
		if err != nil {
			return a, err
		}
		_, err = s.log.Append(ctx, e)
		if errors.Is(err, log.ErrConflict) {
			continue
		}
		if err != nil {
			return a, err
		}
		return a, a.Apply(events.Recorded{Event: e})
	}
	return account.Account{}, fmt.Errorf("change account %s: %w: it moved %d times meanwhile", id, log.ErrOverloaded, maxTries)
}

func (s *accounts) event(next step, stream uuid.UUID, version uint64) (events.Event, error) {
	data, err := json.Marshal(next.Payload)
	if err != nil {
		return events.Event{}, fmt.Errorf("encode %s: %w", next.Type, err)
	}
	if next.ID == uuid.Nil {
		if next.ID, err = uuid.NewV7FromReader(s.rand); err != nil {
			return events.Event{}, fmt.Errorf("make an event's ID: %w", err)
		}
	}
	return events.Event{
		ID: next.ID, Type: next.Type, Stream: stream, Version: version,
		OccurredAt: s.now(), Data: data,
	}, nil
}

// now is the time, in UTC and to the microsecond, as events have it.
func (s *accounts) now() time.Time { return s.clock().UTC().Truncate(time.Microsecond) }

func (s *accounts) newKey() (key vault.Key, err error) {
	if _, err = io.ReadFull(s.rand, key[:]); err != nil {
		err = fmt.Errorf("make a user's key: %w", err)
	}
	return key, err
}

// unreadable marks what went wrong when reading the log as something that may
// pass, save what never does.
func unreadable(err error) error {
	if err == nil || errors.Is(err, log.ErrNotFound) || errors.Is(err, events.ErrCorrupt) {
		return err
	}
	return fmt.Errorf("%w: %w", log.ErrUnavailable, err)
}

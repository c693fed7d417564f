package user

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/account"
)

// errTaken says that a handle or an e-mail is held already.
var errTaken = errors.New("taken")

// newcomer is an account to be made, checked and tidied up.
type newcomer struct {
	personal events.Personal
	password string // empty for one that signs in elsewhere
	claim    string // on the identity elsewhere; empty if there is none
	roles    []string
}

// register makes an account. It fails with errTaken, and a 409 that names the
// fields, if the handle or the e-mail is held.
//
// The order is such that a crash leaves nothing half-made: first the vault gets
// key and password, then the event takes the names. What is left in the vault
// when the event is not written belongs to an ID that nobody has.
func (s *Service) register(ctx context.Context, n newcomer) (opened, error) {
	ring, err := s.keys.get(ctx)
	if err != nil {
		return opened{}, err
	}
	// Before the hash, which is dear. What is free now may be held later.
	claims, err := s.freeClaims(ctx, ring, n.personal)
	if err != nil {
		return opened{}, err
	}
	if n.claim != "" {
		claims = append(claims, n.claim)
	}
	hash := ""
	if n.password != "" {
		if hash, err = s.hasher.Hash(ctx, n.password); err != nil {
			return opened{}, err
		}
	}
	id, err := uuid.NewV7FromReader(s.rand)
	if err != nil {
		return opened{}, fmt.Errorf("make a user's ID: %w", err)
	}
	key, err := s.newKey()
	if err != nil {
		return opened{}, err
	}
	e, err := s.registered(id, key, n, claims)
	if err != nil {
		return opened{}, err
	}
	if err := s.vault.Enrol(ctx, id, key, hash); err != nil {
		return opened{}, err
	}
	_, err = s.log.Append(ctx, e)
	if errors.Is(err, log.ErrConflict) {
		return opened{}, s.withdraw(ctx, ring, id, n.personal)
	}
	if err != nil {
		// It may be written after all; then the next try finds the names taken,
		// and signing in works.
		return opened{}, err
	}
	a, err := account.Fold([]events.Recorded{{Event: e}})
	return opened{a, n.personal}, err
}

func (s *Service) registered(id uuid.UUID, key vault.Key, n newcomer, claims []string) (events.Event, error) {
	sealed, err := seal(s.rand, key, id, events.UserRegistered, n.personal)
	if err != nil {
		return events.Event{}, err
	}
	e, err := s.event(step{
		Type:    events.UserRegistered,
		Payload: events.Registration{Sealed: sealed.Bytes, Roles: n.roles, JoinedAt: s.now()},
	}, id, 1)
	if err != nil {
		return events.Event{}, err
	}
	e.Claims = claims
	return e, nil
}

// withdraw takes back an enrolment whose names another one was first to take.
func (s *Service) withdraw(ctx context.Context, ring *keyring, id uuid.UUID, p events.Personal) error {
	if err := s.vault.Erase(ctx, id); err != nil {
		return err
	}
	if _, err := s.freeClaims(ctx, ring, p); err != nil {
		return err
	}
	return fmt.Errorf("register %s: %w: the append met a conflict, and nothing that it is with", id, log.ErrUnavailable)
}

// freeClaims are the claims on handle and e-mail; if one is held, the error names it.
func (s *Service) freeClaims(ctx context.Context, ring *keyring, p events.Personal) ([]string, error) {
	handle, _ := nameOfHandle(p.Handle)
	names := []name{handle}
	if email, ok := nameOfEmail(p.Email); ok {
		names = append(names, email)
	}
	claims := make([]string, len(names))
	look := func() (held []problem.FieldError, err error) {
		for i, n := range names {
			if claims[i], err = s.freeClaim(ctx, ring, n); err != nil {
				return nil, err
			}
			if claims[i] == "" {
				held = append(held, taken(n.kind))
			}
		}
		return held, nil
	}
	held, err := look()
	if err == nil && len(held) > 0 && len(held) < len(names) {
		// Another one takes both at once, perhaps between our two looks.
		held, err = look()
	}
	if err != nil {
		return nil, err
	}
	return claims, conflict(held...)
}

func taken(field string) problem.FieldError {
	return problem.Field(field, "is taken; choose another one")
}

func conflict(fields ...problem.FieldError) error {
	if len(fields) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %w", problem.Conflict("errors lists what somebody else has already", fields...), errTaken)
}

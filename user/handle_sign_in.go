package user

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

type signInBody struct {
	Login    string `json:"login"`
	Password string `json:"password"`
}

func (b signInBody) faults() (faults []account.Fault) {
	if b.Login == "" || len(b.Login) > account.MaxEmail {
		faults = append(faults, account.Fault{Field: "login", Message: "must be a handle or an e-mail address"})
	}
	// No lower bound: a password that is too short is simply wrong.
	if n := utf8.RuneCountInString(b.Password); n < 1 || n > account.MaxPassword {
		faults = append(faults, account.Fault{Field: "password", Message: "must have 1 to 128 characters"})
	}
	return faults
}

// handleSignIn serves POST /v1/sessions.
func (s *Service) handleSignIn(c echo.Context) error {
	var body signInBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if err := invalid(body.faults()); err != nil {
		return err
	}
	ctx := c.Request().Context()
	ring, err := s.keys.get(ctx)
	if err != nil {
		return err
	}
	login, ok := nameOfLogin(body.Login)
	a, hash, err := s.credentials(ctx, ring, login, ok)
	if err != nil {
		return err
	}
	matches, err := s.tryGuess(c, ring.claim(login, 1), a.ID, func() (bool, error) {
		// Without a hash this takes as long and says no: see password.Hasher.
		return s.hasher.Matches(ctx, body.Password, hash)
	})
	if err != nil {
		return err
	}
	if !matches {
		return wrongLogin()
	}
	access, refresh, err := s.startSession(c, ring, a.ID, a.Roles)
	if err != nil {
		return err
	}
	if err := s.stillGood(ctx, a.ID, hash, refresh); err != nil {
		return err
	}
	return answerSession(c, access, refresh)
}

func wrongLogin() *problem.Problem { return problem.Unauthorized("login or password is wrong") }

// stillGood ends a session that was started while its password was changed: that
// has ended all others, and must not miss this one.
func (s *Service) stillGood(ctx context.Context, user uuid.UUID, hash string, started refreshToken) error {
	now, err := s.vault.PasswordHash(ctx, user)
	if err == nil && now == hash {
		return nil
	}
	if err := errors.Join(err, s.vault.EndSession(ctx, started.session)); err != nil && !errors.Is(err, vault.ErrNotFound) {
		return err
	}
	return wrongLogin()
}

// credentials finds the account that has a name and its password hash, which is
// empty if there is no such account, or it has no password.
func (s *Service) credentials(ctx context.Context, ring *keyring, login name, ok bool) (account.Account, string, error) {
	if !ok {
		return account.Account{}, "", nil
	}
	a, _, err := s.holder(ctx, ring, login)
	if errors.Is(err, log.ErrNotFound) {
		return account.Account{}, "", nil
	}
	if err != nil {
		return account.Account{}, "", err
	}
	hash, err := s.vault.PasswordHash(ctx, a.ID)
	if errors.Is(err, vault.ErrNotFound) {
		return account.Account{}, "", nil
	}
	return a, hash, err
}

package user

import (
	"errors"
	"net/http"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

type passwordBody struct {
	Current string `json:"current"`
	New     string `json:"new"`
}

func (b passwordBody) faults() (faults []account.Fault) {
	if n := utf8.RuneCountInString(b.Current); n < 1 || n > account.MaxPassword {
		faults = append(faults, account.Fault{Field: "current", Message: "must have 1 to 128 characters"})
	}
	if must := account.CheckPassword(b.New); must != "" {
		faults = append(faults, account.Fault{Field: "new", Message: must})
	}
	return faults
}

// handlePassword serves POST /v1/me/password. Sessions end before the password
// changes, so that a failure in between can be repeated, and again after it, for
// those that were started meanwhile; see stillGood.
func (s *Service) handlePassword(c echo.Context) error {
	var body passwordBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if err := invalid(body.faults()); err != nil {
		return err
	}
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	current, err := s.vault.PasswordHash(ctx, caller.Subject)
	if errors.Is(err, vault.ErrNotFound) {
		return problem.Conflict("this account has no password, or is erased")
	}
	if err != nil {
		return err
	}
	matches, err := s.tryGuess(c, caller.Subject.String(), caller.Subject, func() (bool, error) {
		return s.hasher.Matches(ctx, body.Current, current)
	})
	if err != nil {
		return err
	}
	if !matches {
		return wrongPassword()
	}
	next, err := s.hasher.Hash(ctx, body.New)
	if err != nil {
		return err
	}
	if err := s.vault.EndSessions(ctx, caller.Subject, caller.Session); err != nil {
		return err
	}
	switch err := s.vault.ChangePassword(ctx, caller.Subject, current, next); {
	case errors.Is(err, vault.ErrNotFound): // changed or erased meanwhile
		return wrongPassword()
	case err != nil:
		return err
	}
	if err := s.vault.EndSessions(ctx, caller.Subject, caller.Session); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func wrongPassword() *problem.Problem {
	return problem.Invalid(problem.Field("current", "is not the account's password"))
}

package user

import (
	"context"
	"errors"
	"fmt"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

type refreshBody struct {
	RefreshToken string `json:"refresh_token"`
}

// handleRefresh serves POST /v1/sessions/refresh. Everything that may fail comes
// before the exchange, so that a token is spent only if the next one is sent.
func (s *Service) handleRefresh(c echo.Context) error {
	var body refreshBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if body.RefreshToken == "" {
		return problem.Invalid(problem.Field("refresh_token", "is needed: the one that came with the last access token"))
	}
	ctx := c.Request().Context()
	ring, err := s.keys.get(ctx)
	if err != nil {
		return err
	}
	given, ok := parseRefreshToken(ring, body.RefreshToken)
	if !ok {
		return sessionOver()
	}
	access, next, err := s.nextTokens(ctx, ring, given)
	if err != nil {
		return err
	}
	now := s.now()
	err = s.vault.ExchangeToken(ctx, given.session, given.digest(), next.digest(), now, now.Add(RefreshLifetime))
	switch {
	case errors.Is(err, vault.ErrReused):
		s.logger.WarnContext(ctx, "a refresh token was used twice, its session is ended", "user", given.user, "session", given.session)
		return sessionOver()
	case errors.Is(err, vault.ErrNotFound):
		return sessionOver()
	case err != nil:
		return err
	}
	return answerSession(c, access, next)
}

// nextTokens makes the tokens to come, with the roles as they are now.
func (s *Service) nextTokens(ctx context.Context, ring *keyring, given refreshToken) (string, refreshToken, error) {
	a, err := s.fold(ctx, given.user)
	if errors.Is(err, account.ErrUnknown) || err == nil && a.Erased {
		return "", refreshToken{}, fmt.Errorf("%w: user %s is gone", sessionOver(), given.user)
	}
	if err != nil {
		return "", refreshToken{}, err
	}
	access, err := s.signAccess(ring, given.session, a.ID, a.Roles)
	if err != nil {
		return "", refreshToken{}, err
	}
	next, err := s.newRefreshToken(ring, given.session, a.ID)
	return access, next, err
}

func sessionOver() *problem.Problem {
	return problem.Unauthorized("the refresh token is not valid, was used before, or has expired; sign in again")
}

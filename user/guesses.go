package user

import (
	"context"
	"slices"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/guess"
)

// tryGuess runs try, which compares a password with that of a login, unless too many
// guesses have failed. What it costs to refuse is the same for a login that nobody
// has, whose user is nil.
func (s *Service) tryGuess(c echo.Context, login string, user uuid.UUID, try func() (matches bool, err error)) (bool, error) {
	if s.cfg.UnlimitedGuesses {
		return try()
	}
	g := guess.Guess{Login: login, From: clientOf(c)}
	wait, unknown := s.guesses.Take(g)
	if unknown {
		known, err := s.isKnownNetwork(c.Request().Context(), user, network(g.From))
		if err != nil {
			return false, err
		}
		if g.Known = known; known {
			wait, _ = s.guesses.Take(g)
		}
	}
	if wait > 0 {
		p := problem.TooManyRequests(wait)
		p.Detail = "too many passwords were wrong; Retry-After says when to try again"
		return false, p
	}
	matches, err := try()
	if matches || err != nil {
		s.guesses.GiveBack(g)
	}
	return matches, err
}

// isKnownNetwork says whether a user has a session that was started from a network:
// sessions are every instance's, and stay when it is started anew.
func (s *Service) isKnownNetwork(ctx context.Context, user uuid.UUID, from string) (bool, error) {
	sessions, err := s.vault.Sessions(ctx, user, s.now())
	if err != nil || from == "" {
		return false, err
	}
	return slices.ContainsFunc(sessions, func(o vault.Session) bool { return o.Address == from }), nil
}

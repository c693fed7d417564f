package user

import (
	"net/http"
	"slices"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/service/web"
)

// ownSession is a session as its owner sees it.
type ownSession struct {
	ID         uuid.UUID `json:"id"`
	CreatedAt  stamp     `json:"created_at"`
	LastUsedAt stamp     `json:"last_used_at"`
	ExpiresAt  stamp     `json:"expires_at"`
	Agent      *string   `json:"user_agent"`
	Network    *string   `json:"network"`
	Current    bool      `json:"current"`
}

func answerOwnSession(s vault.Session, current uuid.UUID) ownSession {
	return ownSession{
		ID: s.ID, CreatedAt: stamp(s.StartedAt), LastUsedAt: stamp(s.UsedAt), ExpiresAt: stamp(s.ExpiresAt),
		Agent: orNull(s.Agent), Network: orNull(s.Address), Current: s.ID == current,
	}
}

// handleSessions serves GET /v1/me/sessions: all of them on one page.
func (s *Service) handleSessions(c echo.Context) error {
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	sessions, err := s.vault.Sessions(ctx, caller.Subject, s.now())
	if err != nil {
		return err
	}
	items := make([]ownSession, len(sessions))
	for i, o := range sessions {
		items[i] = answerOwnSession(o, caller.Session)
	}
	c.Response().Header().Set("Cache-Control", "no-store")
	return web.List(c, items, "")
}

// handleEndSession serves DELETE /v1/me/sessions/{id}. Another's session is as
// unknown as one that never was.
func (s *Service) handleEndSession(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	own, err := s.vault.Sessions(ctx, caller.Subject, s.now())
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(own, func(o vault.Session) bool { return o.ID == id }) {
		return problem.NotFound("you have no such session, or it has ended")
	}
	if err := s.vault.EndSession(ctx, id); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// handleSignOutEverywhere serves DELETE /v1/sessions.
func (s *Service) handleSignOutEverywhere(c echo.Context) error {
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	if err := s.vault.EndSessions(ctx, caller.Subject, uuid.Nil); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

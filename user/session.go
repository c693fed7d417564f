package user

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/vault"
)

// A refresh token is session, user, 32 random bytes, and the first 16 bytes of
// their MAC under the deployment's secret, in base64url. Clients see noise. The
// MAC tells a token that was ours, whose reuse ends the session, from one that
// somebody made up, which does nothing.
const (
	refreshRandom = 32
	refreshSize   = 16 + 16 + refreshRandom
	refreshMAC    = 16
	// refreshDomain sets these MACs apart from those of handles and e-mails,
	// which never hold a zero byte.
	refreshDomain = "refresh\x00"
)

var refreshEncoding = base64.RawURLEncoding.Strict()

type refreshToken struct {
	session uuid.UUID
	user    uuid.UUID
	raw     string
}

func (t refreshToken) digest() vault.Digest { return sha256.Sum256([]byte(t.raw)) }

// newRefreshToken makes the next token of a session.
func (s *Service) newRefreshToken(ring *keyring, session, user uuid.UUID) (refreshToken, error) {
	b := make([]byte, refreshSize, refreshSize+refreshMAC)
	copy(b, session[:])
	copy(b[16:], user[:])
	if _, err := io.ReadFull(s.rand, b[32:]); err != nil {
		return refreshToken{}, fmt.Errorf("make a refresh token: %w", err)
	}
	b = append(b, ring.mac(refreshDomain + string(b))[:refreshMAC]...)
	return refreshToken{session: session, user: user, raw: refreshEncoding.EncodeToString(b)}, nil
}

// parseRefreshToken reads a token of ours; false if it is not one.
func parseRefreshToken(ring *keyring, raw string) (refreshToken, bool) {
	if len(raw) != refreshEncoding.EncodedLen(refreshSize+refreshMAC) {
		return refreshToken{}, false
	}
	b, err := refreshEncoding.DecodeString(raw) // which skips line breaks
	if err != nil || len(b) != refreshSize+refreshMAC || !hmac.Equal(b[refreshSize:], ring.mac(refreshDomain + string(b[:refreshSize]))[:refreshMAC]) {
		return refreshToken{}, false
	}
	return refreshToken{session: uuid.UUID(b[:16]), user: uuid.UUID(b[16:32]), raw: raw}, true
}

// sessionAnswer is what signing in and refreshing give.
type sessionAnswer struct {
	AccessToken  string `json:"access_token"`
	TokenType    string `json:"token_type"`
	ExpiresIn    int    `json:"expires_in"` // seconds
	RefreshToken string `json:"refresh_token"`
}

// answerSession answers with tokens, which nothing on the way may keep.
func answerSession(c echo.Context, access string, refresh refreshToken) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	return c.JSON(http.StatusCreated, sessionAnswer{
		AccessToken: access, TokenType: "Bearer",
		ExpiresIn: int(AccessLifetime / time.Second), RefreshToken: refresh.raw,
	})
}

func (s *Service) signAccess(ring *keyring, session, user uuid.UUID, roles []string) (string, error) {
	now := s.clock()
	return ring.signing(now).signer.As(s.cfg.Issuer).Sign(token.Claims{
		Subject: user, Session: session, Roles: roles,
		IssuedAt: now, ExpiresAt: now.Add(AccessLifetime),
	})
}

// startSession begins a session of a user who has shown who they are.
func (s *Service) startSession(c echo.Context, ring *keyring, user uuid.UUID, roles []string) (string, refreshToken, error) {
	session, err := uuid.NewRandomFromReader(s.rand)
	if err != nil {
		return "", refreshToken{}, fmt.Errorf("make a session's ID: %w", err)
	}
	refresh, err := s.newRefreshToken(ring, session, user)
	if err != nil {
		return "", refreshToken{}, err
	}
	access, err := s.signAccess(ring, session, user, roles)
	if err != nil {
		return "", refreshToken{}, err
	}
	now := s.now()
	return access, refresh, s.vault.StartSession(c.Request().Context(), vault.Session{
		ID: session, User: user, Token: refresh.digest(), StartedAt: now, UsedAt: now, ExpiresAt: now.Add(RefreshLifetime),
		Agent: agentOf(c.Request()), Address: network(clientOf(c)),
	})
}

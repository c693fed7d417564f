package user

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/token"
)

// handleKeys serves GET /.well-known/jwks.json. There is one key as yet; when
// keys are rotated, the ones before go on being published for a while.
func (s *Service) handleKeys(c echo.Context) error {
	ring, err := s.keys.get(c.Request().Context())
	if err != nil {
		return err
	}
	c.Response().Header().Set("Cache-Control", "public, max-age=300")
	return c.JSONBlob(http.StatusOK, token.JWKS(ring.signer.PublicKey()))
}

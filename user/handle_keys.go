package user

import (
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

const jwksPath = "/.well-known/jwks.json"

// cacheKeys lets caches keep what follows from the keys, for less than a new key
// is published before it signs.
func cacheKeys(c echo.Context) {
	c.Response().Header().Set("Cache-Control", "public, max-age="+strconv.Itoa(int(jwksMaxAge/time.Second)))
}

// handleKeys serves GET /.well-known/jwks.json.
func (s *Service) handleKeys(c echo.Context) error {
	ring, err := s.keys.get(c.Request().Context())
	if err != nil {
		return err
	}
	cacheKeys(c)
	return c.JSONBlob(http.StatusOK, token.JWKS(ring.published(s.clock())...))
}

// discovery is what others need to check our tokens by, as OpenID Connect
// Discovery 1.0 words it. There are no flows to list: sessions begin with a call of
// our own.
type discovery struct {
	Issuer        string   `json:"issuer"`
	KeysURL       string   `json:"jwks_uri"`
	ResponseTypes []string `json:"response_types_supported"`
	SubjectTypes  []string `json:"subject_types_supported"`
	Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	Claims        []string `json:"claims_supported"`
}

// handleDiscovery serves GET /.well-known/openid-configuration.
func (s *Service) handleDiscovery(c echo.Context) error {
	if s.cfg.Issuer == "" {
		return problem.NotFound("this deployment was not told its issuer (MEET5_ISSUER)")
	}
	cacheKeys(c)
	return c.JSON(http.StatusOK, discovery{
		Issuer: s.cfg.Issuer, KeysURL: s.cfg.Issuer + jwksPath,
		ResponseTypes: []string{}, SubjectTypes: []string{"public"}, Algorithms: []string{"EdDSA"},
		Claims: []string{"iss", "aud", "sub", "sid", "roles", "iat", "nbf", "exp"},
	})
}

// keyAnswer is a signing key as admins see it: what is secret is not in it.
type keyAnswer struct {
	ID        string `json:"id"`
	State     string `json:"state"`
	MadeAt    *stamp `json:"made_at"`
	SignsFrom *stamp `json:"signs_from"`
	EndsAt    *stamp `json:"ends_at"`
}

func answerKeys(c echo.Context, keys []SigningKey) error {
	c.Response().Header().Set("Cache-Control", "no-store")
	items := make([]keyAnswer, len(keys))
	for i, k := range keys {
		items[i] = keyAnswer{ID: k.ID, State: k.State, MadeAt: stampOrNull(k.MadeAt), SignsFrom: stampOrNull(k.SignsFrom), EndsAt: stampOrNull(k.EndsAt)}
	}
	return web.List(c, items, "")
}

func stampOrNull(t time.Time) *stamp {
	if t.IsZero() {
		return nil
	}
	s := stamp(t)
	return &s
}

// handleListKeys serves GET /v1/admin/keys.
func (s *Service) handleListKeys(c echo.Context) error {
	keys, err := s.Keys(c.Request().Context())
	if err != nil {
		return err
	}
	return answerKeys(c, keys)
}

type rotateBody struct {
	Compromised bool `json:"compromised"`
}

// handleRotateKeys serves POST /v1/admin/keys/rotate.
func (s *Service) handleRotateKeys(c echo.Context) error {
	var body rotateBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	ctx := c.Request().Context()
	keys, err := s.RotateKeys(ctx, body.Compromised)
	if err != nil {
		return err
	}
	caller, _ := token.FromContext(ctx)
	s.logger.WarnContext(ctx, "an admin rotated the signing keys", "admin", caller.Subject, "compromised", body.Compromised)
	return answerKeys(c, keys)
}

package token

import (
	"errors"
	"strings"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
)

// Require lets only callers with a good token through, with their claims in the
// request's context. If roles are given, one of them is needed. Without a token,
// or with a bad one: 401; without the role: 403; when the keys cannot be read:
// 503.
func Require(v *Verifier, roles ...string) echo.MiddlewareFunc {
	forbidden := problem.Forbidden("this needs the role " + strings.Join(roles, " or "))
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if err := admit(c, v, roles, forbidden); err != nil {
				return err
			}
			return next(c)
		}
	}
}

// admit puts the claims into the request's context, or refuses. It is a function of
// its own so that what it takes of the stack is free again while the handler runs,
// which of a stream of events is for long.
func admit(c echo.Context, v *Verifier, roles []string, forbidden error) error {
	r := c.Request()
	raw, ok := bearer(r.Header.Get(echo.HeaderAuthorization))
	if !ok {
		c.Response().Header().Set("WWW-Authenticate", "Bearer")
		return problem.Unauthorized("send an access token as Authorization: Bearer <token>")
	}
	claims, err := v.Verify(r.Context(), raw)
	if errors.Is(err, ErrInvalid) {
		c.Response().Header().Set("WWW-Authenticate", `Bearer error="invalid_token"`)
		return problem.Unauthorized("the access token is not valid or has expired; sign in or refresh it")
	}
	if err != nil {
		return err
	}
	if len(roles) > 0 && !hasOne(claims, roles) {
		return forbidden
	}
	c.SetRequest(r.WithContext(NewContext(r.Context(), claims)))
	return nil
}

func hasOne(c Claims, roles []string) bool {
	for _, role := range roles {
		if c.HasRole(role) {
			return true
		}
	}
	return false
}

// bearer takes the token out of an Authorization header. The scheme's case does
// not matter (RFC 9110, 11.1).
func bearer(header string) (string, bool) {
	scheme, raw, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return "", false
	}
	raw = strings.TrimLeft(raw, " ")
	return raw, raw != ""
}

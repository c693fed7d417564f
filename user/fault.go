package user

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/vault"
	"github.com/meet5/backend/user/account"
	"github.com/meet5/backend/user/password"
)

// unavailable is the errors that pass: the caller may try again.
var unavailable = []error{log.ErrOverloaded, log.ErrUnavailable, log.ErrClosed, vault.ErrUnavailable, password.ErrBusy}

// passes says that an error is one of those.
func passes(err error) bool {
	for _, u := range unavailable {
		if errors.Is(err, u) {
			return true
		}
	}
	return errors.Is(err, context.DeadlineExceeded)
}

// shown gives an error of the layers below the problem that a client sees. The
// error stays in the chain, for our own log.
func shown(err error) error {
	if passes(err) {
		return fmt.Errorf("%w: %w", problem.Unavailable("this cannot be done right now; try again in a moment", retryAfter), err)
	}
	if errors.Is(err, account.ErrUnknown) {
		return fmt.Errorf("%w: %w", noSuchUser(), err)
	}
	return err
}

// showErrors is a middleware that does so for every route.
func showErrors(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := next(c); err != nil {
			return shown(err)
		}
		return nil
	}
}

func noSuchUser() *problem.Problem {
	return problem.NotFound("there is no such user, or they have erased their account")
}

// invalid is the problem of faults in a body; nil if there are none.
func invalid(faults []account.Fault) error {
	if len(faults) == 0 {
		return nil
	}
	fields := make([]problem.FieldError, len(faults))
	for i, f := range faults {
		fields[i] = problem.Field(f.Field, f.Message)
	}
	return problem.Invalid(fields...)
}

const uuidRule = "must be a UUID such as 018f3c5e-7b1a-7c3d-9e2f-0a1b2c3d4e5f"

// pathID reads the id of a route. Only the usual form of a UUID is one.
func pathID(c echo.Context) (uuid.UUID, error) {
	const length = 36
	raw := c.Param("id")
	id, err := uuid.Parse(raw)
	if err != nil || len(raw) != length {
		return uuid.Nil, problem.Invalid(problem.Field("id", uuidRule))
	}
	return id, nil
}

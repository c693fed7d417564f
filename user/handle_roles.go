package user

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

type rolesBody struct {
	Roles []string `json:"roles"`
}

// handleRoles serves POST /v1/admin/users/{id}/roles: from now on the user has
// these roles and no others. Their tokens show it after the next refresh.
func (s *Service) handleRoles(c echo.Context) error {
	id, err := pathID(c)
	if err != nil {
		return err
	}
	var body rolesBody
	if err := web.Bind(c, &body); err != nil {
		return err
	}
	if body.Roles == nil {
		return problem.Invalid(problem.Field("roles", "is needed: a list, which may be empty"))
	}
	roles, faults := account.Roles(body.Roles)
	if err := invalid(faults); err != nil {
		return err
	}
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	_, err = s.change(ctx, id, func(a account.Account) (step, error) {
		switch {
		case a.Erased:
			return step{}, noSuchUser()
		case slices.Equal(a.Roles, roles):
			return step{}, nil
		}
		return step{Type: events.UserRolesChanged, Payload: events.Roles{Roles: roles, By: caller.Subject.String()}}, nil
	})
	if err != nil {
		return err
	}
	a, err := s.load(ctx, id)
	if err != nil {
		return err
	}
	if a.Erased { // just now
		return noSuchUser()
	}
	return c.JSON(http.StatusOK, answerAccount(a))
}

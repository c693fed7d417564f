package user

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

const mergePatchType = "application/merge-patch+json"

// changeBody is a merge patch (RFC 7396) of the account. Handle and e-mail are in
// it so that who tries to change them is told that it cannot be done this way.
type changeBody struct {
	Handle      web.Optional[string] `json:"handle"`
	Email       web.Optional[string] `json:"email"`
	DisplayName web.Optional[string] `json:"display_name"`
	BirthDate   web.Optional[string] `json:"birth_date"`
	City        web.Optional[string] `json:"city"`
	About       web.Optional[string] `json:"about"`
}

// change returns what the patch asks for, and what it must not ask for.
func (b changeBody) change() (account.Change, []account.Fault) {
	var faults []account.Fault
	refuse := func(field, message string) {
		faults = append(faults, account.Fault{Field: field, Message: message})
	}
	if b.Handle.Set {
		refuse("handle", "cannot be changed")
	}
	if b.Email.Set {
		refuse("email", "cannot be changed here")
	}
	if b.DisplayName.Null {
		refuse("display_name", "cannot be removed, only changed")
	}
	if b.BirthDate.Null {
		refuse("birth_date", "cannot be removed, only changed")
	}
	return account.Change{
		DisplayName: patched(b.DisplayName), BirthDate: patched(b.BirthDate),
		City: patched(b.City), About: patched(b.About),
	}, faults
}

// patched is the value that a field is to have, nil to leave it. Removing a text
// makes it empty.
func patched(o web.Optional[string]) *string {
	if !o.Set {
		return nil
	}
	return &o.Value
}

// bindPatch decodes a merge patch, which may also call itself plain JSON.
func bindPatch(c echo.Context, v any) error {
	if web.RequireContentType(c, mergePatchType) != nil && web.RequireContentType(c, echo.MIMEApplicationJSON) != nil {
		c.Response().Header().Set("Accept-Patch", mergePatchType)
		return problem.UnsupportedMediaType("send the body as Content-Type: " + mergePatchType + " or " + echo.MIMEApplicationJSON)
	}
	data, err := web.ReadBody(c)
	if err != nil {
		return err
	}
	return web.DecodeStrict(data, v)
}

// handleChange serves PATCH /v1/me. A patch that changes nothing writes nothing.
func (s *Service) handleChange(c echo.Context) error {
	var body changeBody
	if err := bindPatch(c, &body); err != nil {
		return err
	}
	wanted, faults := body.change()
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	var personal events.Personal
	a, err := s.change(ctx, caller.Subject, func(a account.Account) (step, error) {
		if a.Erased {
			return step{}, noSuchUser()
		}
		if err := web.IfMatch(c, web.ETag(a.Version)); err != nil {
			return step{}, err
		}
		before, key, err := s.open(ctx, a)
		if errors.Is(err, errKeyMissing) {
			// Most likely it is being erased; deciding again will tell.
			return step{}, fmt.Errorf("%w: %w", problem.Unavailable("the account cannot be read right now", retryAfter), err)
		}
		if err != nil {
			return step{}, err
		}
		after, more := wanted.Apply(before, s.now())
		if err := invalid(merge(faults, more)); err != nil {
			return step{}, err
		}
		if personal = after; after == before {
			return step{}, nil
		}
		sealed, err := seal(s.rand, key, a.ID, events.UserProfileChanged, after)
		return step{Type: events.UserProfileChanged, Payload: events.ProfileChange{Sealed: sealed.Bytes}}, err
	})
	if err != nil {
		return err
	}
	s.cards.drop(a.ID)
	web.SetETag(c, web.ETag(a.Version))
	return c.JSON(http.StatusOK, answerAccount(opened{a, personal}))
}

// merge adds the faults of fields that have none yet.
func merge(faults, more []account.Fault) []account.Fault {
	all := append([]account.Fault(nil), faults...)
	for _, f := range more {
		known := false
		for _, have := range faults {
			known = known || have.Field == f.Field
		}
		if !known {
			all = append(all, f)
		}
	}
	return all
}

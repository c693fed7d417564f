package user

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
	"github.com/meet5/backend/user/account"
)

// handleErase serves DELETE /v1/me. First the event, then the secrets: if this
// process dies in between, whoever follows the log finishes it. Erasing again
// does so, too.
//
// The e-mail is free at once, the handle after HandleHold; their digests, which the
// log keeps, say nothing about whose they were.
func (s *Service) handleErase(c echo.Context) error {
	ctx := c.Request().Context()
	caller, _ := token.FromContext(ctx)
	a, err := s.change(ctx, caller.Subject, func(a account.Account) (step, error) {
		if a.Erased {
			return step{}, nil
		}
		if err := web.IfMatchOptional(c, web.ETag(a.Version)); err != nil {
			return step{}, err
		}
		return step{Type: events.UserErased, Payload: events.Erasure{By: caller.Subject.String()}}, nil
	})
	if err != nil {
		return err
	}
	s.cards.drop(a.ID)
	if err := s.vault.Erase(ctx, a.ID); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

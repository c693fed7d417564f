package activity

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// postActivity is POST /v1/activities.
func (s *Service) postActivity(c echo.Context) error {
	if err := web.RequireContentType(c, echo.MIMEApplicationJSON); err != nil {
		return err
	}
	data, err := web.ReadBody(c)
	if err != nil {
		return err
	}
	b, err := decodeBody(data)
	if err != nil {
		return err
	}
	r := c.Request()
	cmd, err := newCommand(b, callerOf(r), s.deps.Clock(), s.deps.NewID)
	if err != nil {
		return err
	}
	a, status, err := s.accept(r.Context(), &cmd)
	if err != nil {
		return err
	}
	return c.Blob(status, echo.MIMEApplicationJSON, a.appendJSON(make([]byte, 0, answerSize)))
}

// callerOf is who sent a request that token.Require has let through.
func callerOf(r *http.Request) caller {
	claims, _ := token.FromContext(r.Context())
	return caller{id: claims.Subject, trusted: claims.HasRole(token.RoleService)}
}

// accept makes one activity durable.
func (s *Service) accept(ctx context.Context, cmd *command) (a answer, status int, err error) {
	known, err := s.admit(ctx, cmd)
	if err != nil {
		return a, 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	e := cmd.event(known)
	written, err := s.deps.Log.Append(ctx, e)
	if err != nil {
		return a, 0, refusal(err)
	}
	if written[0].Duplicate {
		a, err = s.first(ctx, &e, written[0].Position)
		return a, http.StatusOK, err
	}
	return answer{
		id: e.ID, actor: e.Stream, target: cmd.target, kind: cmd.kind,
		occurredAt: e.OccurredAt, recordedAt: written[0].RecordedAt, at: written[0].Position,
	}, http.StatusCreated, nil
}

package fraud

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"
	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/events"
	"github.com/meet5/backend/events/log"
	"github.com/meet5/backend/fraud/flag"
	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/token"
	"github.com/meet5/backend/service/web"
)

// errNoFlag is the 404 of a flag that is not there, or not the caller's.
var errNoFlag = problem.NotFound("there is no such flag")

// pathID reads the ID in a route's path.
func pathID(c echo.Context) (uuid.UUID, error) {
	id, err := uuid.Parse(c.Param("id"))
	if err != nil {
		return uuid.Nil, problem.Invalid(problem.Field("id", "must be a UUID"))
	}
	return id, nil
}

// caller is who asks. token.Require has seen to it that there is one.
func caller(c echo.Context) uuid.UUID {
	claims, _ := token.FromContext(c.Request().Context())
	return claims.Subject
}

// readFlag reads a flag from the log as it stands.
func (s *Service) readFlag(ctx context.Context, id uuid.UUID) (flag.Record, error) {
	stream, err := log.ReadStream(ctx, s.deps.Log, id)
	if err != nil {
		return flag.Record{}, unavailable(err)
	}
	r, err := flag.Read(stream)
	if errors.Is(err, flag.ErrUnknown) {
		return flag.Record{}, errNoFlag
	}
	return r, err
}

// change reads a flag, appends the event that next makes of it, and returns the
// flag as it is then. If somebody else was quicker it starts over: next decides
// anew on what they have left.
func (s *Service) change(ctx context.Context, id uuid.UUID, next func(context.Context, flag.Record) (events.Event, error)) (flag.Record, error) {
	ctx, cancel := context.WithTimeout(ctx, appendTimeout)
	defer cancel()
	for range maxTries {
		r, err := s.readFlag(ctx, id)
		if err != nil {
			return flag.Record{}, err
		}
		e, err := next(ctx, r)
		if errors.Is(err, flag.ErrNotAllowed) {
			return flag.Record{}, fmt.Errorf("%w: %w", problem.Conflict(err.Error()), err)
		}
		if err != nil {
			return flag.Record{}, err
		}
		e.ID = s.deps.NewID()
		_, err = s.deps.Log.Append(ctx, e)
		switch {
		case err == nil:
			return s.readFlag(ctx, id)
		case !errors.Is(err, log.ErrConflict):
			return flag.Record{}, unavailable(err)
		}
	}
	return flag.Record{}, problem.Conflict("others keep changing this flag; read it again and decide then")
}

// unavailable makes a problem of what kept the log from answering. Anything else
// stays what it is.
func unavailable(err error) error {
	switch {
	case errors.Is(err, log.ErrOverloaded), errors.Is(err, log.ErrUnavailable), errors.Is(err, log.ErrClosed),
		errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", problem.Unavailable("the flags cannot be reached right now; read the flag again before you repeat this", retryAfter), err)
	}
	return err
}

// answerWithFlag answers 200 with the flag and its ETag.
func (s *Service) answerWithFlag(c echo.Context, r flag.Record) error {
	a, err := s.answerRecord(c.Request().Context(), r)
	if err != nil {
		return err
	}
	web.SetETag(c, web.ETag(r.Version))
	return c.JSON(http.StatusOK, a)
}

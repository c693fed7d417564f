package activity

import (
	"context"
	"net/http"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
	"github.com/meet5/backend/service/web"
)

const (
	ndjson = "application/x-ndjson"
	// flushAt is how many bytes of the answer are gathered before they are sent.
	flushAt = 32 << 10
)

// postBatch is POST /v1/activities/batch.
func (s *Service) postBatch(c echo.Context) error {
	if err := web.RequireContentType(c, ndjson); err != nil {
		return err
	}
	r := c.Request()
	from := callerOf(r)
	if !s.slots.take(from.id) {
		return problem.Unavailable("too many batches are under way; send this one when another has been answered", retryAfter)
	}
	defer s.slots.giveBack(from.id)
	body, err := web.ReadBody(c)
	if err != nil {
		return err
	}
	b, err := newBatch(s, body, from)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), appendTimeout)
	defer cancel()
	b.admit(ctx)
	b.write(ctx)
	b.readFirst(ctx)
	return b.send(c)
}

// send answers line by line, without holding the whole answer.
func (b *batch) send(c echo.Context) error {
	w := c.Response()
	w.Header().Set(echo.HeaderContentType, ndjson)
	w.WriteHeader(http.StatusOK)
	buf := make([]byte, 0, flushAt+2*answerSize)
	for i := range b.lines {
		buf = b.lines[i].appendLine(buf, i+1)
		if len(buf) >= flushAt || i == len(b.lines)-1 {
			if _, err := w.Write(buf); err != nil {
				return nil // the client is gone, and what it sent stands
			}
			buf = buf[:0]
		}
	}
	return nil
}

package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/metrics"
	"github.com/meet5/backend/service/problem"
)

// statusClientGone is what metrics show for a request whose client went away
// before it was answered. No client ever sees it.
const statusClientGone = 499

// edge is the outermost middleware: what must happen once per request, whatever
// the handler does.
type edge struct {
	log      *slog.Logger
	requests *metrics.Requests // nil: not measured
}

// panicError is a panic of a handler, on its way to the log.
type panicError struct {
	value any
	stack []byte
}

func (p *panicError) Error() string { return fmt.Sprintf("panic: %v", p.value) }

func (at edge) middleware(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		start := time.Now()
		identify(c)
		err := contain(next, c)
		if err != nil {
			defer at.observe(c, start) // fail may cut the connection with a panic
			at.fail(err, c)
			return nil
		}
		at.observe(c, start)
		return nil
	}
}

// contain turns a panic into an error. http.ErrAbortHandler passes: it is how a
// handler cuts its connection.
func contain(next echo.HandlerFunc, c echo.Context) (err error) {
	defer func() {
		switch v := recover(); v {
		case nil:
		case http.ErrAbortHandler:
			panic(v)
		default:
			err = &panicError{value: v, stack: debug.Stack()}
		}
	}()
	return next(c)
}

// fail answers with the problem that err is, and logs what is our fault.
func (at edge) fail(err error, c echo.Context) {
	r := c.Request()
	if clientGone(r, err) {
		if !c.Response().Committed {
			c.Response().Status = statusClientGone
		}
		return
	}
	p := problem.Of(err)
	if p.Status >= http.StatusInternalServerError || c.Response().Committed {
		at.report(err, p, c)
	}
	if c.Response().Committed {
		panic(http.ErrAbortHandler)
	}
	problem.Write(c.Response(), r, p)
}

func (at edge) report(err error, p *problem.Problem, c echo.Context) {
	// A 503 is the system defending itself: worth knowing, no bug.
	level := slog.LevelError
	if p.Status == http.StatusServiceUnavailable {
		level = slog.LevelWarn
	}
	attrs := []slog.Attr{
		slog.String("method", c.Request().Method),
		slog.String("route", c.Path()),
		slog.Int("status", p.Status),
		slog.String("request_id", RequestID(c)),
		slog.Any("error", err),
	}
	if c.Response().Committed {
		attrs = append(attrs, slog.Bool("answer_cut", true))
	}
	if pe, ok := errors.AsType[*panicError](err); ok {
		attrs = append(attrs, slog.String("stack", string(pe.stack)))
	}
	at.log.LogAttrs(c.Request().Context(), level, "request failed", attrs...)
}

func (at edge) observe(c echo.Context, start time.Time) {
	if at.requests != nil {
		at.requests.Observe(c.Path(), c.Request().Method, c.Response().Status, time.Since(start))
	}
}

// clientGone says that err is only the echo of the client having left.
func clientGone(r *http.Request, err error) bool {
	return errors.Is(err, context.Canceled) && errors.Is(r.Context().Err(), context.Canceled)
}

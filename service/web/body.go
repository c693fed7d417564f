package web

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
)

// DefaultBodyLimit is the largest body, in bytes, of a route that says nothing
// else. Every JSON body of the contract is far smaller.
const DefaultBodyLimit = 64 << 10

// BodyTimeout is how long a client may take to send a body. It ends those that
// send a byte a minute to hold a connection.
const BodyTimeout = time.Minute

// BodyLimit is a route's own limit, in bytes, in place of the default:
//
//	e.POST("/v1/activities/batch", h.batch, web.BodyLimit(8<<20))
//
// A read past it fails with an error that [problem.Of] shows as a 413, a read of
// a body that breaks off with one that it shows as a 400: a handler that reads
// the body itself returns such errors as they are.
func BodyLimit(limit int64) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			if b, ok := c.Request().Body.(*body); ok {
				b.limit = limit
			}
			return next(c)
		}
	}
}

func limitBody(limit int64) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		return func(c echo.Context) error {
			r := c.Request()
			if r.Body == nil || r.Body == http.NoBody {
				return next(c)
			}
			b := &body{w: c.Response(), r: r.Body, limit: limit, declared: r.ContentLength}
			r.Body = b
			// Set now, not at the first read: the server also reads the rest of a
			// body that its handler has left.
			b.timed = http.NewResponseController(b.w).SetReadDeadline(time.Now().Add(BodyTimeout)) == nil
			return next(c)
		}
	}
}

// body is a request body whose limit can still change until it is first read.
type body struct {
	w        http.ResponseWriter
	r        io.ReadCloser
	limit    int64
	left     int64 // of limit, once begun
	declared int64 // Content-Length; -1 if unknown
	begun    bool
	timed    bool  // a read deadline is set
	failed   error // what every further read returns
}

func (b *body) Read(p []byte) (int, error) {
	if b.failed != nil || len(p) == 0 {
		return 0, b.failed
	}
	if !b.begun {
		b.begun, b.left = true, b.limit
		if b.declared > b.limit {
			// Do not wait for what will be refused.
			return 0, b.tooLarge()
		}
	}
	// One byte more than is allowed tells a body of exactly the limit from a
	// larger one.
	if int64(len(p)) > b.left+1 {
		p = p[:b.left+1]
	}
	n, err := b.r.Read(p)
	if int64(n) > b.left {
		n = int(b.left)
		b.left = 0
		return n, b.tooLarge()
	}
	b.left -= int64(n)
	if err == nil {
		return n, nil
	}
	if err != io.EOF {
		b.failed = unreadable(err)
		return n, b.failed
	}
	b.failed = io.EOF
	if b.timed {
		// The handler may answer for hours (server-sent events): a deadline that
		// is left would end it.
		b.timed = false
		_ = http.NewResponseController(b.w).SetReadDeadline(time.Time{})
	}
	return n, io.EOF
}

// unreadable is what a handler gets, and can return as it is, when a body breaks
// off: whatever the cause, it lies with the client or on the way from it.
func unreadable(err error) error {
	p := problem.BadRequest("the body breaks off before its end, or its chunks are malformed")
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p = &problem.Problem{Type: "/problems/request-timeout", Title: "Request timeout",
			Status: http.StatusRequestTimeout, Detail: "the body took longer than " + BodyTimeout.String() + " to arrive"}
	}
	return fmt.Errorf("read body: %w: %w", p, err)
}

func (b *body) tooLarge() error {
	b.failed = &http.MaxBytesError{Limit: b.limit}
	return b.failed
}

func (b *body) Close() error { return b.r.Close() }

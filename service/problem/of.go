package problem

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
)

// retryAfterDeadline is what a client is told after work ran out of time: long
// enough to let a burst pass, short enough for a person who waits.
const retryAfterDeadline = 2 * time.Second

// Of says how err is shown: a Problem anywhere in its chain as it is, a body
// over its limit as 413, an error of the router as the problem of its status, a
// deadline or a cancellation as 503, and anything else as a 500 that says
// nothing about it. Of(nil) is nil.
func Of(err error) *Problem {
	if err == nil {
		return nil
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return p
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return TooLarge("the body is larger than " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes")
	}
	if he, ok := errors.AsType[*echo.HTTPError](err); ok {
		return ofStatus(he.Code)
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return Unavailable("the request took too long and was given up; it is safe to try again later", retryAfterDeadline)
	}
	return Internal()
}

// ofStatus translates what the router and its middleware raise. Their messages
// are dropped: they are written for developers, and may quote internals.
func ofStatus(status int) *Problem {
	switch status {
	case http.StatusBadRequest:
		return BadRequest("the request cannot be read")
	case http.StatusUnauthorized:
		return Unauthorized("this needs an access token")
	case http.StatusForbidden:
		return Forbidden("this is not allowed")
	case http.StatusNotFound:
		return NotFound("there is nothing at this address")
	case http.StatusMethodNotAllowed:
		return MethodNotAllowed("the Allow header lists the methods that this address takes")
	case http.StatusNotAcceptable:
		return NotAcceptable("none of the accepted media types can be served")
	case http.StatusConflict:
		return Conflict("the present state does not allow this")
	case http.StatusPreconditionFailed:
		return PreconditionFailed("the precondition does not hold")
	case http.StatusRequestEntityTooLarge:
		return TooLarge("the body is too large")
	case http.StatusUnsupportedMediaType:
		return UnsupportedMediaType("the body's media type is not supported here")
	case http.StatusUnprocessableEntity:
		return Invalid()
	case http.StatusPreconditionRequired:
		return PreconditionRequired("this needs an If-Match header")
	case http.StatusTooManyRequests:
		return TooManyRequests(time.Second)
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		return Unavailable("this cannot be answered right now", retryAfterDeadline)
	}
	if status >= 400 && status < 500 {
		return &Problem{Type: "/problems/http-" + strconv.Itoa(status), Title: http.StatusText(status), Status: status}
	}
	return Internal()
}

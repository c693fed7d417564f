package web

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"
)

const (
	// TimeoutHeader is how the gateway tells a service how much time a request has
	// left, in milliseconds. It is a time and not a date, so that clocks need not
	// agree.
	TimeoutHeader = "X-Request-Timeout"
	// MaxTimeout is the longest that is heeded. What takes longer has no deadline.
	MaxTimeout = 2 * time.Minute
)

// deadline ends the context of a request when its caller no longer waits. It can be
// believed from anyone: a handler's own bounds stand, so that a caller can only have
// its own request given up sooner, which it also can by going away.
func deadline(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		r := c.Request()
		d, ok := timeout(r.Header)
		if !ok {
			return next(c)
		}
		ctx, cancel := context.WithTimeout(r.Context(), d)
		defer cancel()
		c.SetRequest(r.WithContext(ctx))
		return next(c)
	}
}

// timeout is what a header says, if that makes sense.
func timeout(h http.Header) (time.Duration, bool) {
	said := h[TimeoutHeader]
	if len(said) != 1 {
		return 0, false
	}
	ms, err := strconv.ParseUint(said[0], 10, 32)
	d := time.Duration(ms) * time.Millisecond
	return d, err == nil && ms > 0 && d <= MaxTimeout
}

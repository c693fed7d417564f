package web

import (
	"io"
	"mime"

	"github.com/labstack/echo/v4"

	"github.com/meet5/backend/service/problem"
)

const jsonType = "application/json"

// Bind decodes the JSON body of a request into v, a pointer to a struct, as
// [DecodeStrict] does. A Content-Type other than application/json is a 415; it
// may have parameters.
func Bind(c echo.Context, v any) error {
	if err := RequireContentType(c, jsonType); err != nil {
		return err
	}
	data, err := ReadBody(c)
	if err != nil {
		return err
	}
	return DecodeStrict(data, v)
}

// RequireContentType answers 415 unless the body is of the given media type,
// which is in lower case, as in "application/x-ndjson".
func RequireContentType(c echo.Context, want string) error {
	got := c.Request().Header.Get(echo.HeaderContentType)
	if got == want {
		return nil
	}
	media, _, err := mime.ParseMediaType(got)
	if err != nil || media != want {
		return problem.UnsupportedMediaType("send the body as Content-Type: " + want)
	}
	return nil
}

// ReadBody reads the whole body, up to the route's limit.
func ReadBody(c echo.Context) ([]byte, error) {
	r := c.Request()
	n := r.ContentLength
	if n <= 0 || n > DefaultBodyLimit {
		// A declared length is believed only as far as a body may go by default:
		// for more, the client has to send before memory is spent on it.
		return io.ReadAll(r.Body)
	}
	data := make([]byte, n)
	if got, err := io.ReadFull(r.Body, data); err != nil {
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return data[:got], nil // the end, if an early one: see what it holds
		}
		return nil, err
	}
	// Reading up to the end lifts the body's deadline.
	var one [1]byte
	if _, err := r.Body.Read(one[:]); err != nil && err != io.EOF {
		return nil, err
	}
	return data, nil
}

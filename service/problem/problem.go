// Package problem is how every service says no: RFC 9457 problem details.
//
// Its promises:
//   - every error can be shown: [Of] turns any error into a [Problem], and what
//     it does not know becomes a 500 that tells a client nothing internal;
//   - a problem that is wrapped stays what it is, so that the log gets the whole
//     chain and the client only the problem;
//   - type is a stable relative reference such as "/problems/not-found": clients
//     may compare it, and it never changes for a given kind of problem;
//   - a 401 always carries WWW-Authenticate, and Retry-After is in whole seconds,
//     rounded up, at least 1.
package problem

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ContentType is the media type of a rendered problem.
const ContentType = "application/problem+json"

// MaxFieldErrors is how many field errors a problem shows. A body can hold more
// faults than anyone would read; the answer must not grow with them.
const MaxFieldErrors = 50

// Problem is an RFC 9457 problem, and the error that makes a handler answer
// with it. Everything in it is shown to the client.
type Problem struct {
	Type   string       `json:"type"`             // stable relative reference
	Title  string       `json:"title"`            // the same words for every problem of this type
	Status int          `json:"status"`           // the HTTP status, 400–599
	Detail string       `json:"detail,omitempty"` // what happened this time, and the way out
	Errors []FieldError `json:"errors,omitempty"` // bad fields, in the order they were found

	// RetryAfter, if positive, is when it is worth trying again.
	RetryAfter time.Duration `json:"-"`
}

// FieldError names a bad field of the body, or a bad query parameter, and says
// what it must be.
type FieldError struct {
	Field   string `json:"field"` // a path as in "filter.states[2]"
	Message string `json:"message"`
	// Line and Column, from 1, are where in a body of many lines it stands; 0 if that
	// is not said.
	Line   int `json:"line,omitempty"`
	Column int `json:"column,omitempty"`
}

// Field makes a FieldError, for calls such as
//
//	problem.Invalid(problem.Field("handle", "must be 3 to 30 characters"))
func Field(name, message string) FieldError {
	return FieldError{Field: name, Message: message}
}

// Error is for logs: title, detail and the bad fields.
func (p *Problem) Error() string {
	var b strings.Builder
	b.WriteString(p.Title)
	if p.Detail != "" {
		b.WriteString(": ")
		b.WriteString(p.Detail)
	}
	for i, f := range p.Errors {
		if i == 0 {
			b.WriteString(" (")
		} else {
			b.WriteString("; ")
		}
		b.WriteString(f.Field)
		b.WriteString(" ")
		b.WriteString(f.Message)
	}
	if len(p.Errors) > 0 {
		b.WriteString(")")
	}
	return b.String()
}

// BadRequest is a 400: the request cannot be read at all.
func BadRequest(detail string, fields ...FieldError) *Problem {
	return &Problem{Type: "/problems/bad-request", Title: "Bad request",
		Status: http.StatusBadRequest, Detail: detail, Errors: shown(fields)}
}

// Unauthorized is a 401: no token, or a bad one.
func Unauthorized(detail string) *Problem {
	return &Problem{Type: "/problems/unauthorized", Title: "Unauthorized",
		Status: http.StatusUnauthorized, Detail: detail}
}

// Forbidden is a 403: the token is good, but not for this.
func Forbidden(detail string) *Problem {
	return &Problem{Type: "/problems/forbidden", Title: "Forbidden",
		Status: http.StatusForbidden, Detail: detail}
}

// NotFound is a 404.
func NotFound(detail string) *Problem {
	return &Problem{Type: "/problems/not-found", Title: "Not found",
		Status: http.StatusNotFound, Detail: detail}
}

// MethodNotAllowed is a 405. The caller sets the Allow header.
func MethodNotAllowed(detail string) *Problem {
	return &Problem{Type: "/problems/method-not-allowed", Title: "Method not allowed",
		Status: http.StatusMethodNotAllowed, Detail: detail}
}

// NotAcceptable is a 406: no representation that the Accept header allows.
func NotAcceptable(detail string) *Problem {
	return &Problem{Type: "/problems/not-acceptable", Title: "Not acceptable",
		Status: http.StatusNotAcceptable, Detail: detail}
}

// Conflict is a 409: the request is fine, the present state does not allow it.
// Fields, if any, name what is taken.
func Conflict(detail string, fields ...FieldError) *Problem {
	return &Problem{Type: "/problems/conflict", Title: "Conflict",
		Status: http.StatusConflict, Detail: detail, Errors: shown(fields)}
}

// PreconditionFailed is a 412: If-Match names another version than the current.
func PreconditionFailed(detail string) *Problem {
	return &Problem{Type: "/problems/precondition-failed", Title: "Precondition failed",
		Status: http.StatusPreconditionFailed, Detail: detail}
}

// TooLarge is a 413: the body, or a part of it, is over its limit.
func TooLarge(detail string) *Problem {
	return &Problem{Type: "/problems/too-large", Title: "Content too large",
		Status: http.StatusRequestEntityTooLarge, Detail: detail}
}

// UnsupportedMediaType is a 415.
func UnsupportedMediaType(detail string) *Problem {
	return &Problem{Type: "/problems/unsupported-media-type", Title: "Unsupported media type",
		Status: http.StatusUnsupportedMediaType, Detail: detail}
}

// Invalid is a 422: the request is well formed, but these fields make no sense.
func Invalid(fields ...FieldError) *Problem {
	return &Problem{Type: "/problems/invalid-field", Title: "Invalid field",
		Status: http.StatusUnprocessableEntity,
		Detail: "errors lists each bad field and what it must be", Errors: shown(fields)}
}

// PreconditionRequired is a 428: If-Match is missing.
func PreconditionRequired(detail string) *Problem {
	return &Problem{Type: "/problems/precondition-required", Title: "Precondition required",
		Status: http.StatusPreconditionRequired, Detail: detail}
}

// TooManyRequests is a 429.
func TooManyRequests(retryAfter time.Duration) *Problem {
	return &Problem{Type: "/problems/too-many-requests", Title: "Too many requests",
		Status: http.StatusTooManyRequests,
		Detail: "the rate limit is used up; Retry-After says when to try again", RetryAfter: atLeastOneSecond(retryAfter)}
}

// Internal is a 500. It says nothing about the cause, on purpose.
func Internal() *Problem {
	return &Problem{Type: "/problems/internal", Title: "Internal error",
		Status: http.StatusInternalServerError,
		Detail: "something went wrong on our side; X-Request-Id names this request in our logs"}
}

// Unavailable is a 503: overload, or something we need is gone for now.
func Unavailable(detail string, retryAfter time.Duration) *Problem {
	return &Problem{Type: "/problems/unavailable", Title: "Unavailable",
		Status: http.StatusServiceUnavailable, Detail: detail, RetryAfter: atLeastOneSecond(retryAfter)}
}

// Write renders p. It must come before anything else is written to w. A HEAD
// request gets the headers only.
func Write(w http.ResponseWriter, r *http.Request, p *Problem) {
	h := w.Header()
	// What was prepared for the answer that did not come does not fit this one.
	h.Del("Content-Length")
	h.Del("Content-Encoding")
	h.Del("ETag")
	h.Set("Content-Type", ContentType)
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.FormatInt(seconds(p.RetryAfter), 10))
	}
	if p.Status == http.StatusUnauthorized && h.Get("WWW-Authenticate") == "" {
		h.Set("WWW-Authenticate", "Bearer")
	}
	body, err := json.Marshal(p)
	if err != nil {
		// Unreachable: a Problem holds only strings and an int.
		body = []byte(`{"type":"/problems/internal","title":"Internal error","status":500}`)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(p.Status)
	if r.Method == http.MethodHead {
		return
	}
	// An error here means that the client is gone: there is no one to tell.
	_, _ = w.Write(body)
}

func shown(fields []FieldError) []FieldError {
	if len(fields) > MaxFieldErrors {
		return fields[:MaxFieldErrors]
	}
	return fields
}

func atLeastOneSecond(d time.Duration) time.Duration {
	return max(d, time.Second)
}

// seconds rounds up: a client that comes back early is refused again.
func seconds(d time.Duration) int64 {
	return max(1, int64(math.Ceil(d.Seconds())))
}
